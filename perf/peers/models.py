#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Write the bench models (seeded random weights, no meaning) into a folder: what perf/models.sh measures beside the zoo.
import os
import sys

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

SEED = 20
IDENTITY = "identity.onnx"


def mlp(*widths):
    layers = []
    for k, n in zip(widths, widths[1:]):
        layers += [nn.Linear(k, n), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet():
    """LeNet-5 as it is written today: 28 x 28 pixels, ReLU, max pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def conv(channels, filters, kernel=3, stride=1, groups=1, activation=nn.ReLU6):
    """Convolution, batch normalisation with made-up statistics, activation."""
    norm = nn.BatchNorm2d(filters)
    nn.init.uniform_(norm.running_var, 0.5, 1.5)
    layers = [nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False), norm]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def mobilenet():
    """MobileNet's plan at 3 x 64 x 64: a first layer, eight depthwise-separable blocks, global pooling."""
    plan = [(16, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1),
            (256, 256, 1)]
    layers = [conv(3, 16, stride=2)]
    for channels, filters, stride in plan:
        layers += [conv(channels, channels, stride=stride, groups=channels), conv(channels, filters, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


class Residual(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.body = nn.Sequential(conv(channels, filters, 3, stride, activation=nn.ReLU),
                                  conv(filters, filters, 3, activation=None))
        self.skip = nn.Identity() if channels == filters else conv(channels, filters, 1, stride, activation=None)

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


def resnet():
    """ResNet's plan for 3 x 32 x 32 (He et al., CIFAR), six residual blocks."""
    blocks = [Residual(16, 16, 1), Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 32, 1),
              Residual(32, 64, 2), Residual(64, 64, 1)]
    return nn.Sequential(conv(3, 16, activation=nn.ReLU), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(64, 10))


class Layer(nn.Module):
    """A pre-norm transformer encoder layer whose batch dimension stays the first everywhere."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        tokens, width = x.shape[1:]
        parts = self.qkv(self.norm1(x)).split(width, dim=2)
        q, k, v = (p.reshape(-1, tokens, self.heads, width // self.heads).transpose(1, 2) for p in parts)
        weights = torch.softmax(q @ k.transpose(2, 3) * (width // self.heads) ** -0.5, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(-1, tokens, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Encoder(nn.Module):
    """Two layers, 128 wide, 16 tokens of 128 features in, their mean out."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(Layer(128, 4), Layer(128, 4))

    def forward(self, x):
        return self.layers(x).mean(dim=1)


class Lstm(nn.Module):
    """64 wide, 32 steps of 64 features, the last step classified."""

    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(64, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Dlrm(nn.Module):
    """DLRM with the sizes of its Criteo Kaggle set-up but 1,000 rows a table: 13 numbers and 26 categories (as fractions
    of their table, so that both sides may be fed the same made-up numbers), pairwise dot products, click probability."""

    TABLES, ROWS, WIDTH = 26, 1000, 16

    def __init__(self):
        super().__init__()
        self.bottom = nn.Sequential(*mlp(13, 512, 256, 64, self.WIDTH), nn.ReLU())
        self.tables = nn.ModuleList(nn.Embedding(self.ROWS, self.WIDTH) for _ in range(self.TABLES))
        pairs = torch.tril_indices(self.TABLES + 1, self.TABLES + 1, -1)
        self.register_buffer("pairs", pairs[0] * (self.TABLES + 1) + pairs[1])
        self.top = nn.Sequential(*mlp(self.WIDTH + self.pairs.numel(), 512, 256, 1), nn.Sigmoid())

    def forward(self, x):
        dense = self.bottom(x[:, :13])
        ids = (x[:, 13:].abs() * (self.ROWS - 1)).long()
        rows = [table(ids[:, i]) for i, table in enumerate(self.tables)]
        features = torch.stack([dense, *rows], dim=1)
        products = torch.bmm(features, features.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([dense, products.index_select(1, self.pairs)], dim=1))


# Rows and results of so many bytes, and next to nothing to compute: what moving them costs (BENCH=sizes).
BYTES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
SIZES = {f"in{n}": (lambda n=n: mlp(n // 4, 8, 1), (n // 4,)) for n in BYTES}
SIZES |= {f"out{n}": (lambda n=n: mlp(16, 8, n // 4), (16,)) for n in BYTES}

MODELS = {
    "mlp256": (lambda: mlp(256, 256, 256, 10), (256,)),
    "mnist": (lambda: mlp(784, 512, 256, 10), (784,)),
    "mlp1024": (lambda: mlp(1024, 1024, 1024, 1024), (1024,)),
    "lenet": (lenet, (1, 28, 28)),
    "mobilenet": (mobilenet, (3, 64, 64)),
    "resnet": (resnet, (3, 32, 32)),
    "encoder": (Encoder, (16, 128)),
    "lstm": (Lstm, (32, 64)),
    "dlrm": (Dlrm, (13 + Dlrm.TABLES,)),
}


def identity():
    """What the peer's binding costs: one operator that does nothing, any number of rows and columns."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", "columns"]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", values[:1], values[1:])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    torch.set_num_threads(1)
    for name, (build, shape) in (MODELS | SIZES).items():
        torch.manual_seed(SEED)
        torch.onnx.export(
            build().eval(), torch.zeros(1, *shape), os.path.join(folder, f"{name}.onnx"), opset_version=13,
            input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}})
    onnx.save(identity(), os.path.join(folder, IDENTITY))


if __name__ == "__main__":
    main()
