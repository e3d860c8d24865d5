"""This learner's digits as batches of tensors."""

import numpy as np
import torch
from flops_utils.ml_repo_building_blocks import load_dataset
from flops_utils.ml_repo_templates import DataManagerTemplate
from torch.utils.data import DataLoader, TensorDataset

BATCH = 32


class DataManager(DataManagerTemplate):
    def __init__(self):
        self.dataset = self._prepare_data()

    def _prepare_data(self):
        rows = load_dataset().with_format("numpy")
        images = np.asarray(rows["image"][:], np.float32) / 255
        labels = np.asarray(rows["label"][:], np.int64)
        return TensorDataset(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels))

    def get_data(self):
        cut = len(self.dataset) * 4 // 5
        train = torch.utils.data.Subset(self.dataset, range(cut))
        test = torch.utils.data.Subset(self.dataset, range(cut, len(self.dataset)))
        # Shuffling uses torch's global random generator, which the runtime seeds.
        return DataLoader(train, BATCH, shuffle=True), DataLoader(test, BATCH)
