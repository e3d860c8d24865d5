"""Check an ML repository before a federation does."""
