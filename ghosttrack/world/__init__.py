"""The embedded default: a generated world of facts and the language model trained on it."""
