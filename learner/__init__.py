"""``python -m learner``: train in an edge container."""
