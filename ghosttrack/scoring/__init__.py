"""Fitted detectors on new prompts: load, score, explain."""
