"""The SAE bank: one sparse autoencoder per hook point, trained all at once."""
