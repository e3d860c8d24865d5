"""A small convolutional network with BatchNorm and dropout, in plain PyTorch."""

import torch
from data_manager import DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate
from torch import nn

EPOCHS = 2
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_network():
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.BatchNorm2d(16),  # its batch counter is an int64 tensor without dimensions
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32 * 4 * 4, 10),
    )


class ModelManager(ModelManagerTemplate):
    def __init__(self):
        self.model = build_network().to(DEVICE)
        self.loss = nn.CrossEntropyLoss()

    def set_model_data(self):
        self.train, self.test = DataManager().get_data()

    def get_model(self):
        return self.model

    def get_model_parameters(self):
        return [tensor.detach().cpu().numpy() for tensor in self.model.state_dict().values()]

    def set_model_parameters(self, parameters):
        names = self.model.state_dict().keys()
        state = {name: torch.as_tensor(p) for name, p in zip(names, parameters, strict=True)}
        self.model.load_state_dict(state)

    def fit_model(self):
        optimizer = torch.optim.Adam(self.model.parameters(), lr=2e-3)
        self.model.train()
        for _ in range(EPOCHS):
            for images, labels in self.train:
                optimizer.zero_grad()
                self.loss(self.model(images.to(DEVICE)), labels.to(DEVICE)).backward()
                optimizer.step()
        return len(self.train.dataset)

    def evaluate_model(self):
        self.model.eval()
        loss = right = 0.0
        with torch.no_grad():
            for images, labels in self.test:
                scores, truth = self.model(images.to(DEVICE)), labels.to(DEVICE)
                loss += self.loss(scores, truth).item() * len(truth)
                right += (scores.argmax(dim=1) == truth).sum().item()
        samples = len(self.test.dataset)
        return loss / samples, right / samples, samples
