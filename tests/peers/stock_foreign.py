"""A stock Flower client whose update has an array that we refuse. Arguments: address, kind."""

import io
import pickle
import sys

import flwr
import numpy as np
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status

KINDS = {
    "pickled": lambda: pickle.dumps(np.zeros(3)),
    "texts": lambda: saved(np.full((64, 10), "1.5")),
    "complex": lambda: saved(np.full((64, 10), 1 + 2j)),
}


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class Client(flwr.client.Client):
    def fit(self, ins):
        weights = Parameters([KINDS[sys.argv[2]](), ins.parameters.tensors[1]], "numpy.ndarray")
        return FitRes(Status(Code.OK, ""), weights, 10, {})

    def evaluate(self, ins):
        return EvaluateRes(Status(Code.OK, ""), 2.0, 100, {"accuracy": 0.25})


flwr.client.start_client(server_address=sys.argv[1], client=Client(), insecure=True, max_retries=2)
