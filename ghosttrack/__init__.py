"""Tell whether a language model's answer is hallucinated, and what inside the model says so."""

__version__ = "0.1.0"
