"""Digits through a DataLoader whose batches are made by processes of their own."""

import numpy as np
import torch
from flops_utils.ml_repo_building_blocks import load_dataset
from torch.utils.data import DataLoader, Dataset, Subset


class Digits(Dataset):
    def __init__(self):
        rows = load_dataset().with_format("numpy")
        self.images = np.asarray(rows["image"][:], np.float32).reshape(len(rows), -1) / 255
        self.labels = np.asarray(rows["label"][:], np.int64)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        noise = torch.randn(64) * 0.01  # each worker has torch's seed and its own number
        return torch.from_numpy(self.images[index]) + noise, self.labels[index]


def loaders(workers=2, batch=32):
    """Of the training rows, shuffled, and of the test rows."""
    digits = Digits()
    cut = len(digits) * 4 // 5
    train, test = Subset(digits, range(cut)), Subset(digits, range(cut, len(digits)))
    return (
        DataLoader(train, batch, shuffle=True, num_workers=workers),
        DataLoader(test, batch, num_workers=workers),
    )
