"""Small random weights in the true layouts, written on the spot: the real pipelines run on them in seconds."""
