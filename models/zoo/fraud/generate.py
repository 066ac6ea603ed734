#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Write the fraud bench model: an MLP 32-64-32-1 with seeded random weights, and rows with torch's answers.
import os

import numpy as np
import torch

SEED = 20
HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    net = torch.nn.Sequential(
        torch.nn.Linear(32, 64), torch.nn.ReLU(),
        torch.nn.Linear(64, 32), torch.nn.ReLU(),
        torch.nn.Linear(32, 1), torch.nn.Sigmoid()).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # larger than the default, so that outputs spread
            parameter *= 2
        rows = torch.randn(256, 32)
        expected = net(rows).numpy()
    torch.onnx.export(
        net, torch.zeros(1, 32), os.path.join(HERE, "model.onnx"), opset_version=13,
        input_names=["features"], output_names=["score"],
        dynamic_axes={"features": {0: "batch"}, "score": {0: "batch"}})
    np.save(os.path.join(HERE, "heldout_x.npy"), rows.numpy())
    np.save(os.path.join(HERE, "expected.npy"), expected)
    print(f"scores from {expected.min():.3f} to {expected.max():.3f}")


if __name__ == "__main__":
    main()
