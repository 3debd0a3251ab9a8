"""How a bank is trained: trainer, resume points, shares of hook points, progress, loggers."""
