"""The data that learners train on: local folders, known sources and partitions of them.

This file imports nothing: `datasets` and `pyarrow` take about a second, and an aggregator needs
neither.
"""
