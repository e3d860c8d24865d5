"""Benchmarks of flops-fl beside its peers: `python -m benchmarks overhead`, and so on."""
