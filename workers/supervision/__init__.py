"""One process for each slot, kept alive, watched and ended; and what the two tell each other."""
