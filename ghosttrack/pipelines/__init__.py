"""Extract, train, detect: each reads like a method section."""
