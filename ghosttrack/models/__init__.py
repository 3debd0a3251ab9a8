"""The frozen language model under study: loading, residual streams, generation, scoring."""
