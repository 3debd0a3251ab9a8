"""How it is drawn and set."""
