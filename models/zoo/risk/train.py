#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Train the risk model on scikit-learn's breast-cancer data and write model.onnx, heldout_*.npy, expected.npy.
"""Deterministic: fixed split and seeds, one thread. Run with Debian's /usr/bin/python3 in this folder."""
import os
import sys

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

SEED = 11
HERE = os.path.dirname(os.path.abspath(__file__))


def network():
    return torch.nn.Sequential(
        torch.nn.Linear(30, 32), torch.nn.ReLU(),
        torch.nn.Linear(32, 16), torch.nn.ReLU(),
        torch.nn.Linear(16, 1))


def train(net, x, y):
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=2e-2)
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(80):
        order = torch.randperm(len(x), generator=generator)
        for at in range(0, len(x), 32):
            rows = order[at:at + 32]
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(net(x[rows]), y[rows]).backward()
            optimizer.step()


def fold_standardisation(net, mean, std):
    """W((x - m) / s) + b = (W / s) x + (b - (W / s) m), computed in float64: raw features go in."""
    with torch.no_grad():
        weight = net[0].weight.double() / torch.from_numpy(std)
        bias = net[0].bias.double() - weight @ torch.from_numpy(mean)
        net[0].weight.copy_(weight.float())
        net[0].bias.copy_(bias.float())


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    data = load_breast_cancer()
    x = data.data.astype(np.float64)
    y = (data.target == 0).astype(np.float32)  # scikit-learn's class 0 is malignant: the risk
    x_train, x_held, y_train, y_held = train_test_split(
        x, y, test_size=114, random_state=SEED, stratify=y)
    mean, std = x_train.mean(axis=0), x_train.std(axis=0)
    net = network()
    train(net, torch.from_numpy(((x_train - mean) / std).astype(np.float32)),
          torch.from_numpy(y_train[:, None]))
    fold_standardisation(net, mean, std)
    served = torch.nn.Sequential(*net, torch.nn.Sigmoid()).eval()
    rows = x_held.astype(np.float32)
    with torch.no_grad():
        expected = served(torch.from_numpy(rows)).numpy()
    torch.onnx.export(
        served, torch.zeros(1, 30), os.path.join(HERE, "model.onnx"), opset_version=13,
        input_names=["features"], output_names=["probability"],
        dynamic_axes={"features": {0: "batch"}, "probability": {0: "batch"}})
    np.save(os.path.join(HERE, "heldout_x.npy"), rows)
    np.save(os.path.join(HERE, "heldout_y.npy"), y_held)
    np.save(os.path.join(HERE, "expected.npy"), expected)
    accuracy = float(((expected[:, 0] > 0.5) == (y_held > 0.5)).mean())
    print(f"held-out accuracy {accuracy:.4f}, ROC AUC {roc_auc_score(y_held, expected[:, 0]):.4f} "
          f"over {len(y_held)} rows")
    return 0 if accuracy >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
