"""What the model said, how sure it was of it, and what it says when asked about it."""
