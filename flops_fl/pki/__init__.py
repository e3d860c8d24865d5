"""Certificates on disk: the folder of an authority, requests, and the commands about them."""
