"""FLOps projects: the file that describes one, and what follows from it."""
