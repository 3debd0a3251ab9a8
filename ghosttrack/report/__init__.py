"""From claims to what people read: tables, figures, one HTML page, W&B."""
