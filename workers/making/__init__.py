"""From a job's message to its pixels, or to its text."""
