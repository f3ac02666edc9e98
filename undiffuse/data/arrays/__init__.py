"""Arrays of any shape."""
