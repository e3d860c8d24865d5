"""A mean found by processes of every kind that user code starts: forked, spawned, executed."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from shares import modules, square


class ModelManager:
    def __init__(self):
        self.parameters = [np.zeros(4)]

    def set_model_data(self):
        self.rows = np.random.rand(20, 4)
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))

    def get_model(self):
        return self

    def get_model_parameters(self):
        return self.parameters

    def set_model_parameters(self, parameters):
        self.parameters = parameters

    def fit_model(self):
        forked = multiprocessing.get_context("fork")
        with forked.Pool(2) as pool:
            assert pool.map(square, range(4)) == [0, 1, 4, 9]
        with ProcessPoolExecutor(2, mp_context=forked) as pool:
            assert list(pool.map(square, range(4))) == [0, 1, 4, 9]
        spawned = multiprocessing.get_context("spawn")
        with spawned.Pool(1) as pool:
            assert pool.map(square, range(4)) == [0, 1, 4, 9]
            assert "flwr" not in pool.apply(modules), "it costs each process a second"
        done = subprocess.run(
            [sys.executable, "-c", "print(6 * 7)"], capture_output=True, check=True
        )
        assert done.stdout == b"42\n"
        if (child := os.fork()) == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        with open("pool.txt", "w") as file:  # which nobody shuts down
            file.write(str(self.pool.submit(os.getpid).result()))
        self.parameters = [self.rows.mean(axis=0)]
        return len(self.rows)

    def evaluate_model(self):
        loss = float(((self.rows - self.parameters[0]) ** 2).mean())
        return loss, 1 / (1 + loss), len(self.rows)
