"""Programs that look into one artefact: `python -m ghosttrack.analysis <program> <arguments>`."""
