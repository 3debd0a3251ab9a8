"""Modules that only an environment with LM-Polygraph and UQLM can import."""

collect_ignore = ["__main__.py", "rivals.py"]
