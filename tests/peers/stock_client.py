"""A stock Flower client, without code of flops-fl. Arguments: address, behaviour, a CA's file."""

import os
import sys
import time
from pathlib import Path

import flwr
import numpy as np


class Client(flwr.client.NumPyClient):
    def get_parameters(self, config):
        return []

    def fit(self, parameters, config):
        if sys.argv[2] == "dies":
            os._exit(9)
        if sys.argv[2].startswith("sleeps-"):
            time.sleep(float(sys.argv[2].partition("-")[2]))
        weights, bias = parameters
        # float64 back for float32, as scikit-learn does.
        return [weights.astype(np.float64) + 1, bias + 1.0], 599, {"mood": "good"}

    def evaluate(self, parameters, config):
        return 2.0, 100, {"accuracy": 0.25}


authority = Path(sys.argv[3]).read_bytes() if len(sys.argv) > 3 else None
flwr.client.start_client(
    server_address=sys.argv[1],
    client=Client().to_client(),
    insecure=authority is None,
    root_certificates=authority,
    max_retries=2,
)
