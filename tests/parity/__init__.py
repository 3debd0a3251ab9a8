"""The same answers, scored by GhostTrack and by LM-Polygraph and UQLM."""
