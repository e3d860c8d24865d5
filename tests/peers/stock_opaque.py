"""Stock Flower with an opaque model, without code of flops-fl.

Arguments: address, server or client. The model is tests/repositories/growing_numpy's.
"""

import sys
from pathlib import Path

import flwr
import numpy as np
from flwr.common import (
    Code,
    EvaluateRes,
    FitRes,
    Parameters,
    Status,
    bytes_to_ndarray,
    ndarray_to_bytes,
)

GOOD = Status(Code.OK, "")


class Client(flwr.client.Client):
    def fit(self, ins):
        known, _ = ins.parameters.tensors
        assert bytes_to_ndarray(known).shape[1] == 65
        new = np.full((2, 65), 3.0, np.float32)
        return FitRes(GOOD, Parameters([ndarray_to_bytes(new), b"stock"], ""), 20, {})

    def evaluate(self, ins):
        rows = len(bytes_to_ndarray(ins.parameters.tensors[0]))
        return EvaluateRes(GOOD, float(rows), 10, {"accuracy": 0.5})


if sys.argv[2] == "client":
    flwr.client.start_client(
        server_address=sys.argv[1], client=Client(), insecure=True, max_retries=2
    )
else:
    sys.path.insert(0, str(Path(__file__).parents[1] / "repositories" / "growing_numpy"))
    from collecting import Collecting

    strategy = Collecting(min_fit_clients=2, min_evaluate_clients=2, min_available_clients=2)
    flwr.server.start_server(
        server_address=sys.argv[1],
        config=flwr.server.ServerConfig(num_rounds=2),
        strategy=strategy,
    )
    print("rows", len(strategy.known[0]))
