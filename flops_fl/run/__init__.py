"""A run on disk: where it starts, its checkpoints, its result."""
