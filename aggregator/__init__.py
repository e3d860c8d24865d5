"""``python -m aggregator``: leads the rounds on the root node."""
