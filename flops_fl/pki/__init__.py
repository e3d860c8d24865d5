"""Certificates on disk: an authority's folder, requests, and the commands of `flops-fl pki`."""
