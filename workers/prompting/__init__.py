"""What a model is given to read: the user's words, what is added to them, and better words."""
