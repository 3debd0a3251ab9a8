"""The model asked again with one thing changed."""
