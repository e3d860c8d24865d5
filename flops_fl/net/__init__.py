"""Addresses and TLS."""
