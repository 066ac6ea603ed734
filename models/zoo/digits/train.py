#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Train the digits classifier on scikit-learn's digits and write model.onnx, heldout_*.npy, expected.npy.
"""Deterministic: fixed split and seeds, one thread. Run with Debian's /usr/bin/python3 in this folder."""
import os
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 7
HERE = os.path.dirname(os.path.abspath(__file__))


class Digits(torch.nn.Module):
    """Raw pixels 0..16 in, probabilities of ten classes out."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Dropout(0.2),
            torch.nn.Linear(128, 64), torch.nn.ReLU(),
            torch.nn.Linear(64, 10))

    def forward(self, x):
        return self.net(x / 16.0)


class Served(torch.nn.Module):
    """The trained network with softmax, as it is exported."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return torch.softmax(self.model(x), dim=1)


def train(model, x, y):
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(SEED)
    model.train()
    for _ in range(150):
        order = torch.randperm(len(x), generator=generator)
        for at in range(0, len(x), 64):
            rows = order[at:at + 64]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()


def fold_scale(model):
    """x / 16 becomes part of the first layer's weights: the exported graph takes raw pixels."""
    with torch.no_grad():
        model.net[0].weight /= 16.0
    model.forward = model.net.forward


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    data = load_digits()
    x = data.data.astype(np.float32)
    y = data.target.astype(np.int64)
    x_train, x_held, y_train, y_held = train_test_split(
        x, y, test_size=400, random_state=SEED, stratify=y)
    model = Digits()
    train(model, torch.from_numpy(x_train), torch.from_numpy(y_train))
    fold_scale(model)
    served = Served(model).eval()
    with torch.no_grad():
        expected = served(torch.from_numpy(x_held)).numpy()
    torch.onnx.export(
        served, torch.zeros(1, 64), os.path.join(HERE, "model.onnx"), opset_version=13,
        input_names=["pixels"], output_names=["probabilities"],
        dynamic_axes={"pixels": {0: "batch"}, "probabilities": {0: "batch"}})
    np.save(os.path.join(HERE, "heldout_x.npy"), x_held)
    np.save(os.path.join(HERE, "heldout_y.npy"), y_held.astype(np.float32))
    np.save(os.path.join(HERE, "expected.npy"), expected)
    accuracy = float((expected.argmax(axis=1) == y_held).mean())
    print(f"held-out accuracy {accuracy:.4f} over {len(y_held)} rows")
    return 0 if accuracy >= 0.97 else 1


if __name__ == "__main__":
    sys.exit(main())
