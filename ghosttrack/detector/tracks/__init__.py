"""Statistics of tracks, ghosts among them, and what tracks argue for."""
