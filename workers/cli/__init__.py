"""The command line: one file per group of commands, nothing heavy imported before a command needs it."""
