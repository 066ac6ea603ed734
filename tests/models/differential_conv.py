# SPDX-License-Identifier: BSD-3-Clause
# Random convolution networks against torch: what the channels-last passes and kernels do, in every combination.
import torch
import torch.nn.functional as F
from onnx import helper

BATCHES = (1, 2, 3, 7, 33, 130)
ACTIVATIONS = {
    "Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "LeakyRelu": lambda x: F.leaky_relu(x, 0.01),
    "HardSwish": F.hardswish, "Clip": lambda x: x.clamp(-0.5, 0.75), "Softplus": F.softplus, None: lambda x: x}
CONV = (None, F.conv1d, F.conv2d, F.conv3d)
MAX_POOL = (None, F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGE_POOL = (None, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def same_pads(x, kernel, stride, dilation, lower):
    """ONNX's auto_pad SAME_*: before and after of every axis."""
    pads = []
    for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads.append(((total + 1) // 2, total // 2) if lower else (total // 2, (total + 1) // 2))
    return pads


def padded(x, pads, value=0.0):
    return F.pad(x, [p for before, after in reversed(pads) for p in (before, after)], value=value)


class Network:
    """Grows an ONNX graph and torch's answer side by side."""

    def __init__(self, rng, constant):
        self.rng, self.constant = rng, constant
        self.nodes, self.constants = [], []
        self.spatial = rng.choice((1, 2, 2, 2, 3))
        side = {1: 40, 2: 13, 3: 7}[self.spatial]
        channels = rng.choice((1, 2, 3, 5, 8, 16, 19))
        self.x = torch.randn(rng.choice(BATCHES), channels, *[rng.randint(5, side) for _ in range(self.spatial)])
        self.y, self.name = self.x, "x0"

    def add(self, op, inputs, y, **attributes):
        self.name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [self.name], **attributes))
        self.y = y

    def weights(self, tensor):
        self.constants.append(self.constant(f"c{len(self.constants)}", tensor))
        return self.constants[-1].name

    def ints(self, low, high):
        return [self.rng.randint(low, high) for _ in range(self.spatial)]

    def conv(self, filters=None, keep=False):
        rng, channels = self.rng, self.y.shape[1]
        groups = rng.choice([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
        filters = filters or rng.choice((channels, groups * rng.randint(1, 24)))
        groups = groups if filters % groups == 0 else 1
        kernel = [min(k, n) for k, n in zip(self.ints(1, 5 if self.spatial == 1 else 3), self.y.shape[2:])]
        stride, dilation = ([1] * self.spatial if keep else self.ints(1, 2)), [1] * self.spatial
        if all(n > 2 * (k - 1) for k, n in zip(kernel, self.y.shape[2:])):
            dilation = self.ints(1, 2)
        w = torch.randn(filters, channels // groups, *kernel) / (channels / groups * len(kernel)) ** 0.5
        bias = torch.randn(filters) if rng.random() < 0.7 else None
        inputs = [self.name, self.weights(w)] + ([self.weights(bias)] if bias is not None else [])
        mode = "SAME_UPPER" if keep else rng.choice(("explicit", "SAME_UPPER", "SAME_LOWER", "VALID"))
        if mode == "explicit":
            pads = [(rng.randint(0, 2), rng.randint(0, 2)) for _ in kernel]
            attributes = {"pads": [p[0] for p in pads] + [p[1] for p in pads]}
        else:
            pads = [(0, 0)] * self.spatial
            if mode != "VALID":
                pads = same_pads(self.y, kernel, stride, dilation, mode == "SAME_LOWER")
            attributes = {"auto_pad": mode}
        y = CONV[self.spatial](padded(self.y, pads), w, bias, stride, 0, dilation, groups)
        self.add("Conv", inputs, y, kernel_shape=kernel, strides=stride, dilations=dilation, group=groups, **attributes)

    def norm(self):
        c = self.y.shape[1]
        parts = [torch.randn(c), torch.randn(c), torch.randn(c), torch.rand(c) + 0.5]
        names = [self.weights(p) for p in parts]
        self.add("BatchNormalization", [self.name, *names],
                 F.batch_norm(self.y, parts[2], parts[3], parts[0], parts[1]))

    def activation(self):
        op = self.rng.choice(list(ACTIVATIONS))
        if op == "Clip":
            bounds = [self.weights(torch.tensor(b)) for b in (-0.5, 0.75)]
            self.add("Clip", [self.name, *bounds], ACTIVATIONS[op](self.y))
        elif op:
            self.add(op, [self.name], ACTIVATIONS[op](self.y))

    def residual(self):
        """x + conv(x), in either order, the convolution of the same shape."""
        name, y = self.name, self.y
        self.conv(y.shape[1], keep=True)
        if self.rng.random() < 0.5:
            self.norm()
        self.add("Add", self.rng.choice(([name, self.name], [self.name, name])), self.y + y)

    def scale(self):
        """Something per channel that no convolution before it can take, as squeeze and excitation is."""
        gate = self.y.mean(dim=list(range(2, self.y.dim())), keepdim=True)
        name, y = self.name, self.y
        self.add("GlobalAveragePool", [name], gate)
        self.add("Sigmoid", [self.name], torch.sigmoid(gate))
        self.add("Mul", [name, self.name], y * torch.sigmoid(gate))

    def pool(self):
        kernel = [min(k, n) for k, n in zip(self.ints(1, 3), self.y.shape[2:])]
        stride, pads = self.ints(1, 3), [self.rng.randint(0, k // 2) for k in kernel]
        shape = {"kernel_shape": kernel, "strides": stride, "pads": pads * 2}
        if self.rng.random() < 0.5:
            self.add("MaxPool", [self.name], MAX_POOL[self.spatial](self.y, kernel, stride, pads), **shape)
        else:
            inside = self.rng.randint(0, 1)
            self.add("AveragePool", [self.name], AVERAGE_POOL[self.spatial](
                self.y, kernel, stride, pads, count_include_pad=bool(inside)), count_include_pad=inside, **shape)

    def end(self):
        """Flatten and a dense layer, a global pool, or the image as it is."""
        how = self.rng.randint(0, 2)
        if how == 1:
            self.add("GlobalMaxPool", [self.name], self.y.amax(dim=list(range(2, self.y.dim())), keepdim=True))
        if how > 0:
            self.add("Flatten", [self.name], self.y.flatten(1))
            w = torch.randn(self.y.shape[1], 5) / self.y.shape[1] ** 0.5
            self.add("Gemm", [self.name, self.weights(w)], self.y @ w)


def network(rng, constant):
    """A random network: its nodes, input, answer and constants."""
    n = Network(rng, constant)
    n.conv()
    for _ in range(rng.randint(0, 4)):
        step = rng.choice((n.conv, n.norm, n.activation, n.activation, n.residual, n.scale, n.pool))
        step()
    n.end()
    n.nodes[-1].output[0] = "y"
    return n.nodes, n.x, n.y, n.constants
