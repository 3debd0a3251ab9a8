"""From scores to claims: splits, cross-fitting, metrics, intervals."""
