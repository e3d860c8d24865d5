"""Digits by LoRA: only the adapters are parameters, the frozen base is never sent."""

import numpy as np
import torch
from base import CONFIG, build_base
from flops_utils.ml_repo_building_blocks import load_dataset
from lora import adapt
from torch import nn

EPOCHS, BATCH = 2, 32


class ModelManager:
    def __init__(self):
        self.model = adapt(build_base(**CONFIG))
        self.trained = [p for p in self.model.parameters() if p.requires_grad]

    def set_model_data(self):
        rows = load_dataset().with_format("numpy")
        labels = torch.from_numpy(np.asarray(rows["label"][:], np.int64))
        images = np.asarray(rows["image"][:], np.float32).reshape(len(labels), -1) / 255
        cut = len(labels) * 4 // 5
        images = torch.from_numpy(images)
        self.train, self.test = (images[:cut], labels[:cut]), (images[cut:], labels[cut:])

    def get_model(self):
        return self.model

    def get_model_parameters(self):
        return list(self.trained)  # tensors that record gradients: the runtime takes them

    def set_model_parameters(self, parameters):
        with torch.no_grad():
            for ours, given in zip(self.trained, parameters, strict=True):
                ours.copy_(torch.from_numpy(given))

    def fit_model(self):
        images, labels = self.train
        optimizer = torch.optim.Adam(self.trained, lr=3e-3)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(labels)).split(BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(self.model(images[rows]), labels[rows]).backward()
                optimizer.step()
        return len(labels)

    def evaluate_model(self):
        images, labels = self.test
        with torch.no_grad():
            scores = self.model(images)
        loss = nn.functional.cross_entropy(scores, labels).item()
        return loss, (scores.argmax(dim=1) == labels).float().mean().item(), len(labels)
