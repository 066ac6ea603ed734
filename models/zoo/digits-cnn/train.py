#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Train a small convolution network on scikit-learn's digits and write model.onnx, heldout_*.npy, expected.npy.
"""Deterministic: fixed split and seeds, one thread. Run with Debian's /usr/bin/python3 in this folder."""
import os
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 7
HERE = os.path.dirname(os.path.abspath(__file__))


def network():
    """LeNet's plan at 8 x 8 pixels, with batch normalisation: two convolutions, two poolings, two dense layers."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1, bias=False), torch.nn.BatchNorm2d(32), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Dropout(0.3),
        torch.nn.Linear(64, 10))


def shifted(images, generator):
    """Every image moved by up to one pixel: what a pen does, too."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    at = torch.randint(0, 3, (2,), generator=generator).tolist()
    return padded[:, :, at[0]:at[0] + 8, at[1]:at[1] + 8]


def train(net, x, y):
    epochs, batch = 60, 64
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    steps = epochs * (len(x) // batch + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(SEED)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for at in range(0, len(x), batch):
            rows = order[at:at + batch]
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(shifted(x[rows], generator) / 16.0), y[rows])
            loss.backward()
            optimizer.step()
            schedule.step()


def fold_scale(net):
    """x / 16 becomes part of the first layer's weights (zero padding stays zero): raw pixels go in."""
    with torch.no_grad():
        net[0].weight /= 16.0


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    data = load_digits()
    x = data.images.astype(np.float32)[:, None]
    y = data.target.astype(np.int64)
    x_train, x_held, y_train, y_held = train_test_split(
        x, y, test_size=400, random_state=SEED, stratify=y)
    net = network()
    train(net, torch.from_numpy(x_train), torch.from_numpy(y_train))
    fold_scale(net)
    served = torch.nn.Sequential(*net, torch.nn.Softmax(dim=1)).eval()
    with torch.no_grad():
        expected = served(torch.from_numpy(x_held)).numpy()
    torch.onnx.export(
        served, torch.zeros(1, 1, 8, 8), os.path.join(HERE, "model.onnx"), opset_version=13,
        input_names=["image"], output_names=["probabilities"],
        dynamic_axes={"image": {0: "batch"}, "probabilities": {0: "batch"}})
    np.save(os.path.join(HERE, "heldout_x.npy"), x_held)
    np.save(os.path.join(HERE, "heldout_y.npy"), y_held.astype(np.float32))
    np.save(os.path.join(HERE, "expected.npy"), expected)
    accuracy = float((expected.argmax(axis=1) == y_held).mean())
    print(f"held-out accuracy {accuracy:.4f} over {len(y_held)} rows, "
          f"{sum(p.numel() for p in served.parameters())} parameters")
    return 0 if accuracy >= 0.985 else 1


if __name__ == "__main__":
    sys.exit(main())
