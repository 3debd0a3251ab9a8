"""What is computed from it."""
