#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Attention, norms, activations and recurrent layers as torch exports them: random sizes, masks and batches, the answers
# against torch's by every kernel family, and the plan against what the passes promise.
"""sequence_check.py [NAME...]   ROUNDS=n cases of each kind (6), SEED=n"""
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, os.environ.get("BUILD", "build"), "bin", "millrace-model")
ROUNDS = int(os.environ.get("ROUNDS", "6"))
rng = random.Random(int(os.environ.get("SEED", "20261125")))
LIMIT = 2e-5


class Fn(nn.Module):
    """A function of the inputs with the modules it uses."""

    def __init__(self, fn, **modules):
        super().__init__()
        self.fn = fn
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs):
        return self.fn(self, *inputs)


def tool(*arguments):
    done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{arguments[0]}: {done.stderr.strip()}"
    return done.stdout


def check(folder, module, inputs, plan, opset=13):
    """plan: {operator kind: how many of it}, 0 for what must have gone."""
    module.train(getattr(module, "keep_training", False))
    model, artifact = os.path.join(folder, "m.onnx"), os.path.join(folder, "m.mrm")
    names = [f"x{i}" for i in range(len(inputs))]
    with torch.no_grad():
        want = module(*inputs)
        torch.onnx.export(module, inputs, model, opset_version=opset, input_names=names, output_names=["y"],
                          dynamic_axes={n: {0: "batch"} for n in [*names, "y"]},
                          training=torch.onnx.TrainingMode.PRESERVE)
    tool("compile", model, "-o", artifact)
    kinds = [op["kind"] for op in json.loads(tool("inspect", "--json", artifact))["operators"]]
    for kind, count in plan.items():
        assert kinds.count(kind) == count, f"{kinds.count(kind)} x {kind}, expected {count}: {' '.join(kinds)}"
    files = []
    for i, x in enumerate(inputs):
        files.append(os.path.join(folder, f"x{i}.npy"))
        np.save(files[-1], x.numpy())
    out = os.path.join(folder, "y.npy")
    for backend in ("auto", "scalar"):
        tool("run", artifact, *files, "-o", out, "--backend", backend, "--batch", str(rng.randint(1, 256)))
        got = np.load(out)
        np.testing.assert_allclose(got.reshape(want.shape), want.numpy(), rtol=LIMIT, atol=LIMIT * max(1, want.abs().max()))


def batch():
    return rng.choice([1, 2, 3, rng.randint(4, 130)])


# ---- attention ----

def heads_and_width():
    heads = rng.choice([1, 2, 3, 4, 8])
    return heads, heads * rng.choice([1, 4, 8, 12, 16, 33])


def encoder_layer(folder):
    heads, width = heads_and_width()
    layer = nn.TransformerEncoderLayer(
        width, heads, rng.randint(1, 80), dropout=0.0, activation=rng.choice(["relu", "gelu"]), batch_first=True,
        norm_first=rng.random() < 0.5)
    layers = rng.randint(1, 2)
    module = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    module.keep_training = True  # without dropout the same function, and the one that torch 1.13 exports
    check(folder, module, (torch.randn(batch(), rng.randint(1, 40), width),),
          {"attention": layers, "layer-norm": 2 * layers, "softmax": 0, "matmul": 0, "strided": 0, "reduce": 0,
           "dense": 4 * layers})


def multihead(folder):
    heads, width = heads_and_width()
    attention = nn.MultiheadAttention(width, heads, batch_first=True, bias=rng.random() < 0.7)
    queries, keys = rng.randint(1, 40), rng.randint(1, 40)
    kind = rng.choice(["none", "float", "causal"])
    mask = None
    if kind == "float":
        mask = torch.randn(queries, keys)
    elif kind == "causal":
        keys = queries
        mask = torch.triu(torch.full((queries, queries), float("-inf")), 1)
    module = Fn(lambda m, q, k: m.a(q, k, k, need_weights=False, attn_mask=mask)[0], a=attention)
    b = batch()
    check(folder, module, (torch.randn(b, queries, width), torch.randn(b, keys, width)),
          {"attention": 1, "softmax": 0, "matmul": 0, "strided": 0})


def split(x, heads):
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def by_hand(folder):
    """q, k and v of one projection, masks by addition or choice, the scale at any place."""
    heads, width = heads_and_width()
    tokens = rng.randint(1, 40)
    scale, where = (width // heads) ** -0.5, rng.choice(["scores", "q", "k", "divided"])
    mask = rng.choice(["none", "added", "kept", "hidden", "padding"])
    keep = torch.rand(tokens, tokens) < 0.7
    keep[:, 0] = True

    def forward(m, x, padding):
        q, k, v = (split(p, heads) for p in m.qkv(x).split(width, dim=2))
        q, k = q * scale if where == "q" else q, k * scale if where == "k" else k
        scores = q @ k.transpose(2, 3)
        scores = scores * scale if where == "scores" else scores / scale ** -1 if where == "divided" else scores
        if mask == "added":
            scores = scores + torch.where(keep, 0.0, -1e4)
        elif mask == "kept":
            scores = torch.where(keep, scores, torch.tensor(-1e9))
        elif mask == "hidden":
            scores = scores.masked_fill(~keep, -1e9)
        elif mask == "padding":
            scores = scores + padding[:, None, None, :]
        y = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(x.shape[0], tokens, width)
        return m.out(y) + padding[:, :, None]

    b = batch()
    padding = torch.where(torch.rand(b, tokens) < 0.3, -1e4, 0.0)
    module = Fn(forward, qkv=nn.Linear(width, 3 * width), out=nn.Linear(width, width))
    check(folder, module, (torch.randn(b, tokens, width), padding), {"attention": 1, "softmax": 0, "matmul": 0, "strided": 0})


def cross(folder):
    """Queries of one width, values of another, three projections."""
    heads = rng.randint(1, 4)
    width, values = heads * rng.randint(1, 20), heads * rng.randint(1, 20)
    queries, keys = rng.randint(1, 70), rng.randint(1, 70)

    def forward(m, x, z):
        q, k, v = split(m.q(x), heads), split(m.k(z), heads), split(m.v(z), heads)
        y = torch.softmax(q @ k.transpose(-1, -2), -1) @ v
        return y.transpose(1, 2).reshape(x.shape[0], queries, values)

    b = batch()
    module = Fn(forward, q=nn.Linear(9, width), k=nn.Linear(5, width), v=nn.Linear(5, values))
    check(folder, module, (torch.randn(b, queries, 9), torch.randn(b, keys, 5)), {"attention": 1, "softmax": 0, "matmul": 0})


def unusual(folder):
    """What is no attention must stay as it is: softmax over queries, and a mask that is scaled too."""
    tokens = rng.randint(2, 12)
    kind = rng.choice(["queries", "scaled mask"])
    added = torch.randn(tokens, tokens)

    def forward(m, q, k, v):
        scores = q @ k.transpose(1, 2)
        if kind == "queries":
            return torch.softmax(scores, 1) @ v
        return torch.softmax((scores + added) * 0.5, -1) @ v

    b = batch()
    check(folder, Fn(forward), tuple(torch.randn(b, tokens, 8) for _ in range(3)), {"attention": 0, "matmul": 2})


# ---- norms and activations ----

def norm(folder):
    width, kind = rng.randint(2, 150), rng.choice(["layer", "plain", "rms", "rms by power", "keras", "two axes"])
    gamma, beta = torch.rand(width) + 0.5, torch.randn(width)

    def forward(m, x):
        if kind == "rms":
            return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * gamma
        if kind == "rms by power":
            return gamma * (x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))
        if kind == "keras":
            mean = x.mean(-1, keepdim=True)
            variance = ((x - mean) * (x - mean)).mean(-1, keepdim=True)
            factor = torch.rsqrt(variance + 1e-3) * gamma
            return x * factor + (beta - mean * factor)
        return m.norm(x)

    tokens = rng.randint(1, 9)
    shape = (tokens, width) if kind == "two axes" else width
    module = Fn(forward, norm=nn.LayerNorm(shape, elementwise_affine=kind != "plain"))
    if kind in ("layer", "two axes"):
        nn.init.normal_(module.norm.weight)
        nn.init.normal_(module.norm.bias)
    check(folder, module, (torch.randn(batch(), tokens, width) * 3 + 1,),
          {"layer-norm": 1, "reduce": 0, "binary": 0, "unary": 0})


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu by hand": lambda x: 0.5 * x * (1 + torch.erf(x / 2 ** 0.5)),
    "gelu, Keras' order": lambda x: (1 + torch.erf(x * 0.7071067811865476)) * (0.5 * x),
    "gelu by tanh": lambda x: 0.5 * x * (1 + torch.tanh((2 / 3.141592653589793) ** 0.5 * (x + 0.044715 * x ** 3))),
    "gelu by sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
    "silu by hand": lambda x: x / (1 + torch.exp(-x)),
    "hardswish": F.hardswish,
    "hardswish by hand": lambda x: x * torch.clamp(x + 3, 0, 6) / 6,
    "hardsigmoid by hand": lambda x: torch.clamp(x + 3, 0, 6) / 6,
    "mish": lambda x: x * torch.tanh(F.softplus(x)),
    "sigmoid by hand": lambda x: 1 / (1 + torch.exp(-x)),
    "softsign by hand": lambda x: x / (1 + torch.abs(x)),
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
}


def activation(folder):
    name = rng.choice(list(ACTIVATIONS))
    width = rng.randint(5, 70)
    module = Fn(lambda m, x: ACTIVATIONS[name](m.up(x)), up=nn.Linear(7, width))
    try:
        check(folder, module, (torch.randn(batch(), rng.randint(1, 5), 7) * 4,), {"dense": 1, "unary": 0, "binary": 0})
    except AssertionError as why:
        raise AssertionError(f"{name}: {why}") from why


def no_activation(folder):
    """Chains that only look like one."""
    fn = rng.choice([lambda x: 0.5 * x * (1 + torch.erf(x)), lambda x: x * torch.sigmoid(1.5 * x),
                     lambda x: x * torch.clamp(x + 3, 0, 5) / 6, lambda x: x * torch.tanh(x)])
    check(folder, Fn(lambda m, x: fn(x)), (torch.randn(batch(), rng.randint(1, 40)) * 3,), {})


# ---- recurrent ----

def recurrent(folder):
    kind = rng.choice([nn.LSTM, nn.GRU, nn.RNN])
    inside, hidden, both = rng.randint(1, 40), rng.randint(1, 40), rng.random() < 0.4
    layer = kind(inside, hidden, rng.randint(1, 2), batch_first=True, bidirectional=both, bias=rng.random() < 0.8)
    last = rng.random() < 0.5
    module = Fn(lambda m, x: m.layer(x)[0][:, -1] if last else m.layer(x)[0], layer=layer)
    check(folder, module, (torch.randn(batch(), rng.randint(1, 20), inside),), {})


KINDS = {f.__name__: f for f in (encoder_layer, multihead, by_hand, cross, unusual, norm, activation, no_activation,
                                 recurrent)}


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    passed = failed = 0
    for name in sys.argv[1:] or KINDS:
        rounds = 4 * ROUNDS if name in ("norm", "activation") else ROUNDS
        for i in range(rounds):
            seed = rng.randrange(1 << 30)
            torch.manual_seed(seed)
            with tempfile.TemporaryDirectory() as folder:
                try:
                    KINDS[name](folder)
                    passed += 1
                except Exception as why:  # a wrong answer, a refusal, a time-out
                    failed += 1
                    print(f"FAILED {name} {i}: {' '.join(str(why).split())[:500]}")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
