"""Measured side by side with its peers: `python -m benchmarks overhead`, and so on."""
