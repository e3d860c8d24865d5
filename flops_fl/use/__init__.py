"""Use a repository, or the model of a run, without a federation."""
