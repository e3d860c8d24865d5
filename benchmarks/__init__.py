"""Benchmarks that compare flops-fl with its peers: `python -m benchmarks overhead`, and so on."""
