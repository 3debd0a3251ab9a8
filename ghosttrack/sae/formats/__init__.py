"""SAEs at rest: SAELens' folders, which we write too, sparsify's, and the earlier codes' files."""
