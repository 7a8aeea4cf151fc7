"""Small models with a meaning: trained on a world that this package draws, in the true classes and on-disk formats."""
