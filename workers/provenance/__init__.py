"""What every file says of where it came from: credentials, marks in pixels, and who signs."""
