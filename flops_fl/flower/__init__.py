"""All code that imports flwr: the NumPyClient, strategies, stock clients and servers, flwr run."""
