"""A package, since a wheel of a dependency brings another one of this name along."""
