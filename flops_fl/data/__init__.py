"""What a learner trains on: local folders, known sources, partitions of them.

Nothing is imported here: `datasets` and `pyarrow` take about a second, and an aggregator
needs neither.
"""
