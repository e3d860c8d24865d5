"""Softmax regression on batches from DataLoader workers."""

import torch
from data_manager import loaders
from torch import nn


class ModelManager:
    def __init__(self):
        self.model = nn.Linear(64, 10)

    def set_model_data(self):
        self.train, self.test = loaders()

    def get_model(self):
        return self.model

    def get_model_parameters(self):
        return [tensor.numpy() for tensor in self.model.state_dict().values()]

    def set_model_parameters(self, parameters):
        state = zip(self.model.state_dict(), map(torch.from_numpy, parameters), strict=True)
        self.model.load_state_dict(dict(state))

    def fit_model(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        for images, labels in self.train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(images), labels).backward()
            optimizer.step()
        return len(self.train.dataset)

    def evaluate_model(self):
        loss = right = 0.0
        with torch.no_grad():
            for images, labels in self.test:
                scores = self.model(images)
                loss += nn.functional.cross_entropy(scores, labels, reduction="sum").item()
                right += (scores.argmax(dim=1) == labels).sum().item()
        samples = len(self.test.dataset)
        return loss / samples, right / samples, samples
