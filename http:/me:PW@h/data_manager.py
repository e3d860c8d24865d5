"""This learner's images, as rows of numbers from 0 to 1; it trains on four fifths of them."""

import math

import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset
from flops_utils.ml_repo_templates import DataManagerTemplate

COLUMN = "image"
SHAPE = (8, 8)
SCALE = 255
LABEL = "label"
LABELS = list(range(10))
INPUTS, CLASSES = math.prod(SHAPE), len(LABELS)


class DataManager(DataManagerTemplate):
    def __init__(self):
        self.train, self.test = self._prepare_data()

    def _prepare_data(self):
        dataset = load_dataset().with_format("numpy")
        rows = np.asarray(dataset[COLUMN][:], np.float32).reshape(-1, INPUTS) / SCALE
        number = {label: number for number, label in enumerate(LABELS)}
        labels = np.array([number[label] for label in dataset[LABEL][:].tolist()])
        # The runtime seeds NumPy's generator, so a learner always draws the same order.
        order = np.random.permutation(len(rows))
        train, test = np.split(order, [len(order) * 4 // 5])
        return (rows[train], labels[train]), (rows[test], labels[test])

    def get_data(self):
        return self.train, self.test
