"""A network with one hidden layer, in PyTorch."""

import torch
from data_manager import CLASSES, INPUTS, DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

HIDDEN, EPOCHS, BATCH, LEARNING_RATE = 64, 2, 32, 2e-3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def batches(rows, labels, *, shuffle=False):
    # Shuffling draws from torch's generator, which the runtime seeds.
    data = TensorDataset(torch.from_numpy(rows), torch.from_numpy(labels))
    return DataLoader(data, BATCH, shuffle=shuffle)


class ModelManager(ModelManagerTemplate):
    def __init__(self):
        layers = [nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Dropout(0.2)]
        self.model = nn.Sequential(*layers, nn.Linear(HIDDEN, CLASSES)).to(DEVICE)
        self.loss = nn.CrossEntropyLoss()

    def set_model_data(self):
        train, test = DataManager().get_data()
        self.train, self.test = batches(*train, shuffle=True), batches(*test)

    def get_model(self):
        return self.model

    def get_model_parameters(self):
        return [tensor.detach().cpu().numpy() for tensor in self.model.state_dict().values()]

    def set_model_parameters(self, parameters):
        names = self.model.state_dict().keys()
        state = {name: torch.as_tensor(p) for name, p in zip(names, parameters, strict=True)}
        self.model.load_state_dict(state)

    def fit_model(self):
        # A new optimiser for each fit: what it remembers is no parameter, and is never sent.
        optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.model.train()
        for _ in range(EPOCHS):
            for rows, labels in self.train:
                optimizer.zero_grad()
                self.loss(self.model(rows.to(DEVICE)), labels.to(DEVICE)).backward()
                optimizer.step()
        return len(self.train.dataset)

    def evaluate_model(self):
        self.model.eval()
        loss = right = 0.0
        with torch.no_grad():
            for rows, labels in self.test:
                scores, truth = self.model(rows.to(DEVICE)), labels.to(DEVICE)
                loss += self.loss(scores, truth).item() * len(truth)
                right += (scores.argmax(dim=1) == truth).sum().item()
        samples = len(self.test.dataset)
        return loss / samples, right / samples, samples
