#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Random shapes and attributes for the operator families, one small model each, against torch; batched
# models besides must answer every row as they answer it alone.
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

import differential_conv

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, os.environ.get("BUILD", "build"), "bin", "millrace-model")
ROUNDS = int(os.environ.get("ROUNDS", "12"))
rng = random.Random(20261123)
torch.manual_seed(5)
torch.set_num_threads(1)


def floats(*shape):
    return torch.randn(*shape)


def constant(name, tensor):
    return numpy_helper.from_array(tensor.numpy().copy(), name)


def shape(rank=None, most=7):
    return [rng.randint(1, most) for _ in range(rank or rng.randint(1, 4))]


def compiled(folder, nodes, inputs, constants=(), batched=False):
    dims = lambda t: (["batch"] if batched else [t.shape[0]]) + list(t.shape[1:])
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, dims(t)) for i, t in enumerate(inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], list(constants))
    path = os.path.join(folder, "model.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)]), path)
    out = os.path.join(folder, "model.mrm")
    done = subprocess.run([TOOL, "compile", path, "-o", out], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return out


def check(folder, nodes, inputs, want, constants=(), batched=False, limit=2e-5):
    model = compiled(folder, nodes, inputs, constants, batched)
    files = []
    for i, t in enumerate(inputs):
        files.append(os.path.join(folder, f"in{i}.npy"))
        np.save(files[-1], t.numpy())
    for backend in ("auto", "scalar"):
        out = os.path.join(folder, "out.npy")
        done = subprocess.run([TOOL, "run", model, *files, "-o", out, "--backend", backend],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(np.load(out).reshape(want.shape), want.numpy(), rtol=limit, atol=limit)


def binary(folder):
    s = shape()
    t = [d if rng.random() < 0.6 else 1 for d in s[rng.randint(0, len(s) - 1):]]
    op, fn = rng.choice([("Add", torch.add), ("Sub", torch.sub), ("Mul", torch.mul), ("Div", torch.div),
                         ("Min", torch.minimum), ("Max", torch.maximum)])
    a, b = floats(*s), floats(*t) + 3
    check(folder, [helper.make_node(op, ["x0", "x1"], ["y"])], [a, b], fn(a, b))


def unary(folder):
    op, fn = rng.choice([("Erf", torch.erf), ("Softplus", F.softplus), ("Elu", F.elu), ("Selu", F.selu),
                         ("Floor", torch.floor), ("Round", torch.round), ("Sin", torch.sin),
                         ("Sigmoid", torch.sigmoid), ("Tanh", torch.tanh), ("Softsign", F.softsign),
                         ("Atan", torch.atan), ("Sinh", torch.sinh), ("Sign", torch.sign)])
    x = floats(*shape()) * 3
    check(folder, [helper.make_node(op, ["x0"], ["y"])], [x], fn(x))


def reduction(folder):
    x = floats(*shape(rng.randint(2, 5), 6))
    axes = sorted(rng.sample(range(1, x.dim()), rng.randint(1, x.dim() - 1)))
    op, fn = rng.choice([("ReduceMean", torch.mean), ("ReduceMax", torch.amax), ("ReduceMin", torch.amin),
                         ("ReduceLogSumExp", torch.logsumexp)])
    keep = rng.randint(0, 1)
    check(folder, [helper.make_node(op, ["x0"], ["y"], axes=axes, keepdims=keep)], [x],
          fn(x, tuple(axes), bool(keep)), batched=True)


def matmul(folder):
    outer, (m, k, n) = shape(rng.randint(1, 3), 4), shape(3, 40)
    a = floats(*outer, m, k)
    b = floats(*[d if rng.random() < 0.5 else 1 for d in outer], k, n)
    check(folder, [helper.make_node("MatMul", ["x0", "x1"], ["y"])], [a, b], a @ b, limit=1e-4)


def convolution(folder):
    spatial, groups = rng.randint(1, 3), rng.randint(1, 3)
    x = floats(rng.randint(1, 3), groups * rng.randint(1, 4), *[rng.randint(6, 11) for _ in range(spatial)])
    w = floats(groups * rng.randint(1, 5), x.shape[1] // groups, *[rng.randint(1, 3) for _ in range(spatial)])
    b = floats(w.shape[0])
    stride, pad, dilation = ([rng.randint(lo, hi) for _ in range(spatial)] for lo, hi in ((1, 3), (0, 2), (1, 2)))
    fn = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    check(folder, [helper.make_node("Conv", ["x0", "w", "b"], ["y"], strides=stride, pads=pad * 2,
                                    dilations=dilation, group=groups)], [x],
          fn(x, w, b, stride, pad, dilation, groups), [constant("w", w), constant("b", b)], True, 1e-4)


def convolution_network(folder):
    nodes, x, want, constants = differential_conv.network(rng, constant)
    check(folder, nodes, [x], want, constants, True, 3e-4)


def transposed_convolution(folder):
    groups = rng.randint(1, 2)
    x = floats(1, groups * rng.randint(1, 3), rng.randint(3, 6), rng.randint(3, 6))
    w = floats(x.shape[1], rng.randint(1, 3), rng.randint(2, 4), rng.randint(2, 4))
    stride, pad = [rng.randint(1, 3), rng.randint(1, 3)], [rng.randint(0, 1), rng.randint(0, 1)]
    check(folder, [helper.make_node("ConvTranspose", ["x0", "w"], ["y"], strides=stride, pads=pad * 2,
                                    group=groups)], [x],
          F.conv_transpose2d(x, w, None, stride, pad, 0, groups), [constant("w", w)], True, 1e-4)


def pooling(folder):
    x = floats(2, rng.randint(1, 3), rng.randint(6, 12), rng.randint(6, 12))
    kernel, stride = [rng.randint(2, 4), rng.randint(2, 4)], [rng.randint(1, 3), rng.randint(1, 3)]
    pad = [rng.randint(0, 1), rng.randint(0, 1)]
    if rng.random() < 0.5:
        node = helper.make_node("MaxPool", ["x0"], ["y"], kernel_shape=kernel, strides=stride, pads=pad * 2)
        want = F.max_pool2d(x, kernel, stride, pad)
    else:
        inside = rng.randint(0, 1)
        node = helper.make_node("AveragePool", ["x0"], ["y"], kernel_shape=kernel, strides=stride,
                                pads=pad * 2, count_include_pad=inside)
        want = F.avg_pool2d(x, kernel, stride, pad, count_include_pad=bool(inside))
    check(folder, [node], [x], want, batched=True)


def normalisation(folder):
    x = floats(3, rng.randint(1, 5), rng.randint(2, 6), rng.randint(2, 6))
    c = x.shape[1]
    scale, bias, mean, var = floats(c), floats(c), floats(c), torch.rand(c) + 0.1
    w = floats(4, c, 1, 1)
    names = ["scale", "bias", "mean", "var"]
    nodes = [helper.make_node("BatchNormalization", ["x0", *names], ["n"]),
             helper.make_node("Conv", ["n", "w"], ["y"])]
    want = F.conv2d(F.batch_norm(x, mean, var, scale, bias), w)
    check(folder, nodes, [x], want, [constant(n, t) for n, t in zip(names, (scale, bias, mean, var))] +
          [constant("w", w)], True, 1e-4)


def convolution_then_normalisation(folder):
    x, w = floats(2, 3, 7, 6), floats(rng.randint(1, 6), 3, 3, 3)
    c = w.shape[0]
    scale, bias, mean, var = floats(c), floats(c), floats(c), torch.rand(c) + 0.1
    names = ["scale", "bias", "mean", "var"]
    nodes = [helper.make_node("Conv", ["x0", "w"], ["n"]),
             helper.make_node("BatchNormalization", ["n", *names], ["r"]), helper.make_node("Relu", ["r"], ["y"])]
    want = F.relu(F.batch_norm(F.conv2d(x, w), mean, var, scale, bias))
    check(folder, nodes, [x], want, [constant(n, t) for n, t in zip(names, (scale, bias, mean, var))] +
          [constant("w", w)], True, 1e-4)


def movement(folder):
    x = floats(*shape(4, 6))
    perm = rng.sample(range(4), 4)
    pads = [rng.randint(0, 2) for _ in range(8)]
    nodes = [helper.make_node("Transpose", ["x0"], ["t"], perm=perm),
             helper.make_node("Pad", ["t", "pads"], ["p"]),
             helper.make_node("Concat", ["p", "p"], ["y"], axis=rng.randint(0, 3))]
    t = F.pad(x.permute(perm), [p for d in range(3, -1, -1) for p in (pads[d], pads[4 + d])])
    check(folder, nodes, [x], torch.cat([t, t], nodes[2].attribute[0].i), [constant("pads", torch.tensor(pads))])


def lstm(folder):
    steps, batch, inputs, hidden = shape(4, 9)
    cell = torch.nn.LSTM(inputs, hidden, bidirectional=True)
    order = [0, 3, 1, 2]  # torch i f g o, ONNX i o f c

    def gates(t):
        return torch.cat([t.chunk(4)[k] for k in order])

    parts = [(getattr(cell, "weight_ih_l0" + s), getattr(cell, "weight_hh_l0" + s),
              getattr(cell, "bias_ih_l0" + s), getattr(cell, "bias_hh_l0" + s)) for s in ("", "_reverse")]
    w, r, bi, bh = (torch.stack([gates(p[k].detach()) for p in parts]) for k in range(4))
    x = floats(steps, batch, inputs)
    with torch.no_grad():
        want = cell(x)[0].reshape(steps, batch, 2, hidden).permute(0, 2, 1, 3)
    check(folder, [helper.make_node("LSTM", ["x0", "w", "r", "b"], ["y"], hidden_size=hidden,
                                    direction="bidirectional")], [x], want,
          [constant("w", w), constant("r", r), constant("b", torch.cat([bi, bh], 1))], limit=1e-4)


def top_k(folder):
    """Long lines with many equal elements: values and, with the first of equals first, indices."""
    rows, n = rng.randint(1, 9), rng.choice([5, 63, 64, 100, 1000, 4097])
    k, largest = rng.randint(1, min(n, rng.choice([3, 20, 200]))), rng.randint(0, 1)
    x = torch.randn(rows, n) if rng.randint(0, 1) else torch.randint(-9, 9, (rows, n)).float()
    order = torch.argsort(-x if largest else x, dim=1, stable=True)[:, :k]
    want = torch.cat([torch.gather(x, 1, order), order.float()], 1)
    check(folder, [helper.make_node("TopK", ["x0", "k"], ["v", "i"], largest=largest, axis=-1),
                   helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
                   helper.make_node("Concat", ["v", "f"], ["y"], axis=1)],
          [x], want, [constant("k", torch.tensor([k]))], batched=True, limit=0)


def embedding_bag(folder):
    rows, bag, size, width = rng.randint(1, 20), rng.randint(1, 12), rng.randint(1, 300), rng.randint(1, 70)
    table, mean = floats(size, width), rng.randint(0, 1)
    x = torch.randint(-size, size, (rows, bag)).float()
    found = table[x.long()]
    reduce = helper.make_node("ReduceMean", ["g"], ["y"], axes=[1], keepdims=rng.randint(0, 1)) if mean else (
        helper.make_node("ReduceSum", ["g", "one"], ["y"], keepdims=0))
    check(folder, [helper.make_node("Cast", ["x0"], ["i"], to=TensorProto.INT64),
                   helper.make_node("Gather", ["t", "i"], ["g"]), reduce],
          [x], found.mean(1) if mean else found.sum(1),
          [constant("t", table), constant("one", torch.tensor([1]))], batched=True)


def sparse_features(folder):
    """A recommender's: columns of one id tensor, each with its table, joined with something else, in any order."""
    rows, fields, width, stacked = rng.randint(1, 20), rng.randint(1, 20), rng.randint(1, 40), rng.randint(0, 1)
    sizes = [rng.randint(1, 60) for _ in range(fields)]
    tables = [floats(n, width) for n in sizes]
    used = [rng.randrange(fields) if rng.random() < 0.3 else f for f in range(fields)]  # some share one
    x = torch.stack([torch.randint(-sizes[used[f]], sizes[used[f]], (rows,)) for f in range(fields)], 1).float()
    other = floats(rows, *([1, width] if stacked else [rng.randint(1, 9)]))
    constants = [constant(f"t{f}", t) for f, t in enumerate(tables)] + [constant("one", torch.tensor([1]))]
    nodes = [helper.make_node("Cast", ["x0"], ["ids"], to=rng.choice([TensorProto.INT64, TensorProto.INT32]))]
    for f in range(fields):
        if rng.random() < 0.5:
            constants += [constant(f"c{f}", torch.tensor(f))]
            nodes += [helper.make_node("Gather", ["ids", f"c{f}"], [f"i{f}"], axis=1)]
        else:
            constants += [constant(f"{n}{f}", torch.tensor([v])) for n, v in (("a", f), ("b", f + 1))]
            nodes += [helper.make_node("Slice", ["ids", f"a{f}", f"b{f}", "one"], [f"s{f}"]),
                      helper.make_node("Squeeze", [f"s{f}", "one"], [f"i{f}"])]
        nodes += [helper.make_node("Gather", [f"t{used[f]}", f"i{f}"], [f"g{f}"])]
        nodes += [helper.make_node("Unsqueeze", [f"g{f}", "one"], [f"e{f}"])] if stacked else []
    parts = [(("e" if stacked else "g") + str(f), tables[used[f]][x[:, f].long()]) for f in range(fields)]
    parts = [(name, v.unsqueeze(1) if stacked else v) for name, v in parts]
    parts.insert(rng.randint(0, fields), ("x1", other))
    if rng.random() < 0.3:
        rng.shuffle(parts)
    nodes += [helper.make_node("Concat", [name for name, _ in parts], ["y"], axis=1)]
    check(folder, nodes, [x, other], torch.cat([v for _, v in parts], 1), constants, batched=True, limit=0)


FAMILIES = (binary, unary, reduction, matmul, convolution, convolution_network, transposed_convolution, pooling,
            normalisation, convolution_then_normalisation, movement, lstm, top_k, embedding_bag,
            sparse_features)


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            name = family.__name__.replace("_", " ")
            try:
                for _ in range(ROUNDS):
                    family(folder)
                print(f"ok: {name}: {ROUNDS} random models equal torch's")
            except AssertionError as e:
                failed += 1
                print(f"FAILED: {name}: {e}")
    print(f"{len(FAMILIES) - failed} passed, {failed} failed, 0 skipped")
    sys.exit(failed != 0)


main()
