"""This learner's digits; each image is a row of 784 numbers from 0 to 1."""

import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset
from flops_utils.ml_repo_templates import DataManagerTemplate
from sklearn.model_selection import train_test_split


class DataManager(DataManagerTemplate):
    def __init__(self):
        self.images, self.labels = self._prepare_data()

    def _prepare_data(self):
        dataset = load_dataset()
        dataset.set_format("numpy")
        images = np.asarray(dataset["image"][:], dtype=np.float64)
        return images.reshape(len(dataset), -1) / 255.0, np.asarray(dataset["label"][:])

    def get_data(self):
        split = train_test_split(self.images, self.labels, test_size=0.2, shuffle=False)
        train_images, test_images, train_labels, test_labels = split
        return (train_images, train_labels), (test_images, test_labels)
