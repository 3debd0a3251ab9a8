"""What runs, and earlier codes, left."""
