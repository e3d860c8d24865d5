"""Actor images: an ML repository, what it needs and flops-fl, as OCI images for a registry."""
