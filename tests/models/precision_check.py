#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# bf16 and int8 artifacts against the same arithmetic done by numpy from what models/run/dense.h says;
# the accuracy report against numpy's own count; label files of every type numpy writes.
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, os.environ.get("BUILD", "build"), "bin", "millrace-model")
F = np.float32
failed = 0


def check(name, ok, why=""):
    global failed
    failed += not ok
    print(f"  {'ok  ' if ok else 'FAIL'}  {name}{'' if ok else ': ' + why}")


def tool(*arguments, env=None, refuse=False):
    done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, env=env)
    assert (done.returncode != 0) == refuse, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr


def network(rng, widths):
    return [((rng.standard_normal((k, n)) / np.sqrt(k)).astype(F), rng.standard_normal(n).astype(F) / 4)
            for k, n in zip(widths, widths[1:])]


def save(layers, path):
    nodes, constants, last = [], [], "x"
    for i, (w, b) in enumerate(layers):
        end = i + 1 == len(layers)
        constants += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], ["y" if end else f"g{i}"]))
        if not end:
            nodes.append(helper.make_node("Relu", [f"g{i}"], [f"h{i}"]))
        last = f"h{i}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "m", [value("x", TensorProto.FLOAT, ["n", layers[0][0].shape[0]])],
                              [value("y", TensorProto.FLOAT, ["n", layers[-1][0].shape[1]])], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)


def bf16(x):
    bits = x.astype(F).view(np.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) & np.uint32(0xFFFF0000)).view(F)


def layer_bf16(x, w, b):
    return (bf16(x).astype(np.float64) @ bf16(w).astype(np.float64) + b).astype(F)


def layer_int8(x, w, b, span=None):
    pairs = w if w.shape[0] % 2 == 0 else np.vstack([w, np.zeros((1, w.shape[1]), F)])
    pairs = pairs.reshape(-1, 2, w.shape[1])
    most = np.maximum(np.abs(w).max(0), np.abs(pairs[:, 0] + pairs[:, 1]).max(0))
    scales = (most / F(127)).astype(F)
    q = np.rint(w * (F(1) / scales)).astype(np.int64)
    low = np.full((len(x), 1), span[0], F) if span else np.minimum(x.min(1, keepdims=True), 0)
    high = np.full((len(x), 1), span[1], F) if span else np.maximum(x.max(1, keepdims=True), 0)
    inverse = F(255) / (high - low)
    zero = np.rint(-low * inverse)
    u = np.clip(np.rint(x * inverse) + zero, 0, 255).astype(np.int64)
    sums = (u - zero.astype(np.int64)) @ q
    return sums.astype(F) * ((high - low) / F(255) * scales) + b


def forward(layers, x, layer, seen=None):
    for i, (w, b) in enumerate(layers):
        if seen is not None:
            seen.append((min(x.min(), 0), max(x.max(), 0)))
        wide = w.shape[1] > 16  # narrower layers stay in float32
        x = layer(x, w, b, i) if wide else (x.astype(np.float64) @ w + b).astype(F)
        x = np.maximum(x, 0) if i + 1 < len(layers) else x
    return x


def run(work, artifact, x, *more):
    np.save(f"{work}/x.npy", x)
    said = tool("run", artifact, f"{work}/x.npy", "-o", f"{work}/y.npy", *more)
    return np.load(f"{work}/y.npy"), said


def against_numpy(work, rng):
    for round in range(8):
        widths = [int(rng.integers(1, 200)) for _ in range(3)] + [int(rng.integers(1, 40))]
        layers, x = network(rng, widths), rng.standard_normal((37, widths[0])).astype(F)
        save(layers, f"{work}/m.onnx")
        ranges = []
        forward(layers, x, lambda v, w, b, i: v @ w + b, ranges)
        np.save(f"{work}/c.npy", x)
        for name, options, layer in (
                ("bf16", [], lambda v, w, b, i: layer_bf16(v, w, b)),
                ("int8", [], lambda v, w, b, i: layer_int8(v, w, b)),
                ("int8", ["--calibrate", f"{work}/c.npy"], lambda v, w, b, i: layer_int8(v, w, b, ranges[i]))):
            tool("compile", f"{work}/m.onnx", "-o", f"{work}/m.mrm", "--precision", name, *options)
            got, _ = run(work, f"{work}/m.mrm", x)
            want = forward(layers, x, layer)
            # A value next to a rounding step may go the other way after a different sum before it.
            error = np.abs(got - want).max() / np.abs(want).max()
            check(f"{name} {' '.join(options[:1])} {widths}", error < 2e-2 and
                  np.abs(got - want).mean() / np.abs(want).max() < 1e-3, f"error {error}")


def one_layer_is_exact(work, rng):
    layers, x = network(rng, [150, 70]), rng.standard_normal((64, 150)).astype(F)
    save(layers, f"{work}/m.onnx")
    tool("compile", f"{work}/m.onnx", "-o", f"{work}/m.mrm", "--precision", "int8")
    got, _ = run(work, f"{work}/m.mrm", x)
    check("one int8 layer bit for bit", np.array_equal(got, layer_int8(x, *layers[0])))
    for backend in ("scalar", "native"):
        again, _ = run(work, f"{work}/m.mrm", x, "--backend", backend)
        check(f"backend {backend} the same bits", np.array_equal(got, again))
    said = tool("run", f"{work}/m.mrm", f"{work}/x.npy", "-o", f"{work}/y.npy", "--backend", "openblas", refuse=True)
    check("openblas refuses int8 by name", "int8 panels" in said, said)


def reports(work):
    zoo = os.path.join(ROOT, "models", "zoo", "digits")
    x, labels = np.load(f"{zoo}/heldout_x.npy"), np.load(f"{zoo}/heldout_y.npy")
    tool("compile", f"{zoo}/model.onnx", "-o", f"{work}/f.mrm")
    want, _ = run(work, f"{work}/f.mrm", x.astype(F))
    for name in ("bf16", "int8"):
        said = tool("compile", f"{zoo}/model.onnx", "-o", f"{work}/m.mrm", "--precision", name, "--rows",
                    f"{zoo}/heldout_x.npy", "--labels", f"{zoo}/heldout_y.npy")
        got, _ = run(work, f"{work}/m.mrm", x.astype(F))
        same = int((got.argmax(1) == want.argmax(1)).sum())
        right = 100 * (got.argmax(1) == labels).mean()
        check(f"digits {name}: label agreement as numpy counts it", f"the same in {same} of {len(x)} rows" in said, said)
        check(f"digits {name}: hits as numpy counts them", f"right      {right:.2f} %" in said, said)
        worst = float(re.search(r"absolute error ([\d.e+-]+) at most", said)[1])
        check(f"digits {name}: largest error", abs(worst / np.abs(got - want).max() - 1) < 0.01, said)
        check(f"digits {name}: at least 99 % of the labels agree", same >= 0.99 * len(x), said)
        check(f"digits {name}: size and time are printed", re.search(r"in [\d.]+ ms: \d+ bytes, " + name, said), said)
        for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"):
            np.save(f"{work}/l.npy", labels.astype(kind))
            said = tool("run", f"{work}/m.mrm", f"{work}/x.npy", "--against", f"{work}/f.mrm", "--labels", f"{work}/l.npy")
            check(f"labels of type {kind}", f"right      {right:.2f} %" in said, said)


def tuning(work, rng):
    layers = network(rng, [64, 96, 8])
    save(layers, f"{work}/m.onnx")
    env = dict(os.environ, XDG_CACHE_HOME=f"{work}/cache")
    said = tool("compile", f"{work}/m.onnx", "-o", f"{work}/m.mrm", "--tune", env=env)
    check("tune measures both layers", len(re.findall(r"^layer .*b1 .*b8 .*b32 .*b128", said, re.M)) == 2, said)
    again = tool("compile", f"{work}/m.onnx", "-o", f"{work}/m2.mrm", "--tune", "--avoid-cpus", "0", env=env)
    check("the second time it remembers", "measured before" in again, again)
    with open(f"{work}/m.mrm", "rb") as a, open(f"{work}/m2.mrm", "rb") as b:
        check("the same choice gives the same artifact", a.read() == b.read())
    check("inspect shows it", "tuned_for" in tool("inspect", f"{work}/m.mrm"))
    cache = os.path.join(work, "cache", "millrace", "tune")
    name = os.path.join(cache, os.listdir(cache)[0])
    with open(name) as f:
        host, lines = f.read().split("\n", 1)
    # As if OpenBLAS had been ten times faster in the first layer: that one is stored for it.
    times = [line.split() for line in lines.strip().split("\n")]
    times[0] = ["100"] * 4 + ["10"] * 4
    times[1] = ["10"] * 4 + ["100"] * 4
    with open(name, "w") as f:
        f.write(host + "\n" + "\n".join(" ".join(t) for t in times) + "\n")
    said = tool("compile", f"{work}/m.onnx", "-o", f"{work}/m.mrm", "--tune", env=env)
    shown = tool("inspect", f"{work}/m.mrm")
    check("a layer for OpenBLAS is row-major, the other is not", shown.count("row-major") == 1 and
          "openblas" in shown and "native" in said, shown)
    x = rng.standard_normal((9, 64)).astype(F)
    got, _ = run(work, f"{work}/m.mrm", x)
    want = forward(layers, x, lambda v, w, b, i: v @ w + b)
    check("both kinds in one model answer right", np.abs(got - want).max() < 1e-4)
    for junk in ("", host, host + "\n1 2 3", host + "\n" + "nan " * 16, "other cpu\n" + "1 " * 16):
        with open(name, "w") as f:
            f.write(junk)
        said = tool("compile", f"{work}/m.onnx", "-o", f"{work}/m.mrm", "--tune", env=env)
        check(f"a cache of {junk[-12:]!r} is measured anew", "measured before" not in said, said)


def main():
    rng = np.random.default_rng(20261125)
    with tempfile.TemporaryDirectory() as work:
        one_layer_is_exact(work, rng)
        against_numpy(work, rng)
        reports(work)
        tuning(work, rng)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
