"""``python -m learner``: trains on local data in an edge container."""
