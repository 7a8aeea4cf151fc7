"""One folder per model family. Importing any of it is free of torch: the libraries are imported by `load`."""
