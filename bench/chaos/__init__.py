"""Real workers that die, hang and lose their connections, and a reader of what the outside saw of it."""
