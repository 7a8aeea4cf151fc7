"""The accelerator: whose turn it is, how much it holds, what was compiled for it, and how weights get there."""
