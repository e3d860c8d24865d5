"""A strategy for models whose arrays grow: as Flower's own read and write them."""

import numpy as np
from flwr.common import Parameters, bytes_to_ndarray, ndarray_to_bytes
from flwr.server.strategy import FedAvg


class Collecting(FedAvg):
    takes_opaque = True

    def __init__(self, **options):
        super().__init__(**options)
        self.known = [np.zeros((0, 65), np.float32)]

    def aggregate_fit(self, server_round, results, failures):
        new = [bytes_to_ndarray(result.parameters.tensors[0]) for _, result in results]
        notes = [result.parameters.tensors[1] for _, result in results]
        self.known = [np.concatenate([*self.known, *new])]
        return Parameters([ndarray_to_bytes(self.known[0]), b", ".join(notes)], ""), {}
