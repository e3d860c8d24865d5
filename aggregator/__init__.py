"""``python -m aggregator``: lead the rounds on the root node."""
