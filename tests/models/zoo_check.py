#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Zoo artifacts against recorded outputs, random ONNX networks against numpy, refusals and signatures.
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, os.environ.get("BUILD", "build"), "bin", "millrace-model")
ZOO = os.path.join(ROOT, "models", "zoo")
BACKENDS = ("auto", "openblas", "scalar")


def tool(*arguments, ok=True):
    done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False, timeout=120)
    if ok and done.returncode:
        raise AssertionError(f"millrace-model {arguments}: {done.stderr.strip()}")
    return done


def answers(model, rows, folder, *options, outputs=1):
    """The first output's array, or with outputs > 1 a list of all."""
    np.save(os.path.join(folder, "in.npy"), rows)
    out = [os.path.join(folder, f"out{i}.npy") for i in range(outputs)]
    tool("run", model, os.path.join(folder, "in.npy"), *(word for path in out for word in ("-o", path)), *options)
    return [np.load(path) for path in out] if outputs > 1 else np.load(out[0])


def accuracy(got, labels):
    guess = got.argmax(axis=1) if got.shape[1] > 1 else (got[:, 0] > 0.5)
    return float((guess == labels).mean())


def recall_at_10(items, history, wanted):
    """Share of rows whose wanted item is among the first ten that the history does not hold."""
    fresh = ([i for i in row if i not in known][:10] for row, known in zip(items, history))
    return float(np.mean([item in row for row, item in zip(fresh, wanted)]))


def zoo_model_equals_its_trainer_and_its_card(name, folder):
    path = os.path.join(ZOO, name)
    rows = np.load(os.path.join(path, "heldout_x.npy"))
    expected = np.load(os.path.join(path, "expected.npy"))
    for stored in ("auto", "openblas"):
        artifact = os.path.join(folder, f"{name}.mrm")
        tool("compile", os.path.join(path, "model.onnx"), "-o", artifact, "--backend", stored)
        assert json.loads(tool("inspect", "--json", artifact).stdout)["name"] == name
        for backend in BACKENDS:
            for batch in ("1", "7", "256"):
                got = answers(artifact, rows, folder, "--backend", backend, "--batch", batch)
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    labels_file = os.path.join(path, "heldout_y.npy")
    if not os.path.exists(labels_file):
        return
    with open(os.path.join(path, "card.md"), encoding="utf-8") as card:
        stated = float(re.search(r"held-out accuracy: ([0-9.]+)", card.read()).group(1))
    measured = accuracy(got, np.load(labels_file))
    assert abs(measured - stated) < 5e-5, f"accuracy {measured}, the card says {stated}"


def shown_plan_is_sound(name, folder):
    """What inspect tells of dtypes, work and memory: as the ONNX file says, and no two living buffers share a byte."""
    artifact, graph = os.path.join(folder, f"{name}.mrm"), onnx.load(os.path.join(ZOO, name, "model.onnx")).graph
    tool("compile", os.path.join(ZOO, name, "model.onnx"), "-o", artifact)
    plan = json.loads(tool("inspect", "--json", artifact).stdout)
    dtypes = {onnx.TensorProto.FLOAT: "FP32", onnx.TensorProto.INT64: "INT64"}
    for shown, told in ((plan["inputs"], graph.input), (plan["outputs"], graph.output)):
        assert [io["dtype"] for io in shown] == [dtypes[t.type.tensor_type.elem_type] for t in told], shown
    steps, buffers = plan["operators"], plan["buffers"]
    matrices = {t.name: int(np.prod(t.dims)) for t in graph.initializer if len(t.dims) == 2}
    weights = sum(matrices.get(i, 0) for n in graph.node if n.op_type in ("Gemm", "MatMul") for i in n.input)
    dense = [s for s in steps if s["kind"] == "dense"]
    assert sum(s["flops"] for s in dense) == 2 * weights, steps
    assert sum(s["constant_bytes"] for s in dense) >= 4 * weights, steps
    life = {}  # buffer: first and last step
    for at, step in enumerate(steps):
        for b in step["in"] + step["out"]:
            first, _ = life.get(b, (at if b in step["out"] else -1, at))
            life[b] = (first, at)
    read = {b for step in steps for b in step["in"]}
    life = {b: (first, last if b in read else len(steps)) for b, (first, last) in life.items()}
    assert len(life) == len(buffers)
    for a in range(len(buffers)):
        for b in range(a):
            ends = [buffers[k]["row_offset"] + buffers[k]["bytes"] for k in (a, b)]
            meet = buffers[a]["row_offset"] < ends[1] and buffers[b]["row_offset"] < ends[0]
            over = life[b][1] == life[a][0] and [buffers[a][k] == buffers[b][k] for k in ("row_offset", "bytes")] == [True] * 2
            in_place = over and steps[life[a][0]]["kind"] in ("unary", "binary", "cast")
            assert not meet or in_place or life[a][1] < life[b][0] or life[b][1] < life[a][0], (a, b, buffers, life)
    assert max(b["row_offset"] + b["bytes"] for b in buffers) <= plan["row_arena_bytes"]
    text = tool("inspect", artifact).stdout
    assert all(f"{b['row_offset']:>10} {b['bytes']:>10}" in text for b in buffers), text


def recommender_equals_torch_and_its_card(name, folder):
    """Scores as torch's; items as its wherever no two scores are near enough to change places; recall as stated."""
    path = os.path.join(ZOO, name)
    rows, wanted, scores, items = (np.load(os.path.join(path, f"{n}.npy")) for n in (
        "heldout_x", "heldout_y", "expected", "expected_items"))
    for backend in BACKENDS:
        got = answers(os.path.join(path, "model.onnx"), rows, folder, "--backend", backend, outputs=2)
        np.testing.assert_allclose(got[0], scores, rtol=1e-4, atol=1e-5)
        gap = np.abs(np.diff(scores, axis=1, prepend=np.inf, append=-np.inf))
        clear = np.minimum(gap[:, :-1], gap[:, 1:]) > 1e-4
        clear[:, -1] = False  # the one behind it is not known
        assert (got[1] == items)[clear].all()
    with open(os.path.join(path, "card.md"), encoding="utf-8") as card:
        stated = float(re.search(r"held-out recall@10: ([0-9.]+)", card.read()).group(1))
    measured = recall_at_10(got[1], rows, wanted)
    assert abs(measured - stated) < 2.5e-3, f"recall {measured}, the card says {stated}"


class Network:
    """A random chain of operators, built as ONNX and evaluated by numpy side by side."""

    def __init__(self, rng):
        self.rng = rng
        self.nodes, self.constants = [], []
        width = int(rng.integers(1, 70))
        self.first = width
        self.x = rng.normal(size=(int(rng.integers(1, 40)), width)).astype(np.float32)
        self.value, self.name = self.x.astype(np.float64), "x"

    def constant(self, array):
        name = f"c{len(self.constants)}"
        if self.rng.integers(2):
            tensor = numpy_helper.from_array(array, name)
        else:
            kind = TensorProto.FLOAT if array.dtype == np.float32 else TensorProto.INT64
            tensor = helper.make_tensor(name, kind, array.shape, array.flatten().tolist())
        self.constants.append(tensor)
        return name

    def node(self, kind, value, *inputs, **attributes):
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        self.value, self.name = value, out

    def random(self, *shape):
        return (self.rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    def gemm(self):
        n, trans = int(self.rng.integers(1, 90)), int(self.rng.integers(2))
        alpha, beta = (float(np.float32(v)) for v in self.rng.uniform(0.5, 2, 2))
        w = self.random(self.value.shape[1], n)
        inputs = [self.name, self.constant(w.T.copy() if trans else w)]
        value = alpha * (self.value @ w.astype(np.float64))
        if self.rng.integers(3):
            shape = [(n,), (1, n), (1,), (1, 1)][self.rng.integers(4)]
            bias = self.random(*shape)
            inputs.append(self.constant(bias))
            value = value + beta * bias.astype(np.float64)
        self.node("Gemm", value, *inputs, alpha=alpha, beta=beta, transB=trans)

    def matmul_add(self):
        n = int(self.rng.integers(1, 90))
        w, bias = self.random(self.value.shape[1], n), self.random(n)
        self.node("MatMul", self.value @ w.astype(np.float64), self.name, self.constant(w))
        value, c = self.value + bias.astype(np.float64), self.constant(bias)
        pair = (self.name, c) if self.rng.integers(2) else (c, self.name)
        self.node("Add", value, *pair)

    def activation(self):
        v = self.value
        kind = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Softmax", "Identity")[self.rng.integers(6)]
        if kind == "Softmax":
            e = np.exp(v - v.max(axis=1, keepdims=True))
            self.node(kind, e / e.sum(axis=1, keepdims=True), self.name, axis=1)
        elif kind == "LeakyRelu":
            self.node(kind, np.where(v < 0, np.float64(np.float32(0.2)) * v, v), self.name, alpha=0.2)
        else:
            f = {"Relu": lambda a: np.maximum(a, 0), "Tanh": np.tanh, "Identity": lambda a: a,
                 "Sigmoid": lambda a: 1 / (1 + np.exp(-a))}[kind]
            self.node(kind, f(v), self.name)

    def reshape(self):
        width = self.value.shape[1]
        if width % 2:
            return
        rows = self.value.shape[0]
        halves = self.value.reshape(rows, 2, width // 2)
        self.node("Reshape", halves, self.name, self.constant(np.array([0, 2, -1], np.int64)))
        w = self.random(width // 2, 8)
        self.node("MatMul", self.value @ w.astype(np.float64), self.name, self.constant(w))
        self.node("Flatten", self.value.reshape(rows, -1), self.name)

    def skip(self):
        """A residual: the same value by two ways meets again."""
        before, name = self.value, self.name
        scale = self.random(self.value.shape[1])
        self.node("Mul", before * scale.astype(np.float64), name, self.constant(scale))
        self.node("Add" if self.rng.integers(2) else "Sub", self.value, self.name, name)
        self.value = self.value + before if self.nodes[-1].op_type == "Add" else self.value - before

    def model(self):
        graph = helper.make_graph(
            self.nodes, "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", self.first])],
            [helper.make_tensor_value_info(self.name, TensorProto.FLOAT, None)], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def random_networks_equal_numpy(folder):
    for seed in range(80):
        rng = np.random.default_rng(seed)
        net = Network(rng)
        steps = (net.gemm, net.matmul_add, net.activation, net.activation, net.reshape, net.skip)
        for _ in range(int(rng.integers(1, 9))):
            steps[rng.integers(len(steps))]()
        if not net.nodes:
            continue
        path = os.path.join(folder, "random.onnx")
        onnx.save(net.model(), path)
        for backend in BACKENDS:
            got = answers(path, net.x, folder, "--backend", backend)
            np.testing.assert_allclose(got, net.value, rtol=2e-4, atol=2e-5,
                                       err_msg=f"seed {seed}, backend {backend}")


def refusals_name_their_cause(folder):
    def attempt(nodes, inputs, constants=(), output="y"):
        graph = helper.make_graph(
            nodes, "g", inputs, [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            list(constants))
        path = os.path.join(folder, "refused.onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
        out = os.path.join(folder, "refused.mrm")
        done = tool("compile", path, "-o", out, ok=False)
        assert done.returncode == 1 and not os.path.exists(out)
        return done.stderr

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    w = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    node = helper.make_node
    cases = [
        ("operator Unique is not supported (node 'c')", [node("Unique", ["x", "w"], ["y"], name="c")], [x], [w]),
        ("the shapes do not multiply", [node("MatMul", ["x", "w"], ["y"])], [x], [w]),
        ("which nothing before it produces", [node("Relu", ["z"], ["y"])], [x], []),
        ("defined twice", [node("Relu", ["x"], ["x"])], [x], []),
        ("axis 0 is the batch", [node("Softmax", ["x"], ["y"], axis=0)], [x], []),
        ("fixes the batch", [node("Reshape", ["x", "s"], ["y"])], [x],
         [numpy_helper.from_array(np.array([2, 4], np.int64), "s")]),
        ("the batch is not its first dimension", [node("Add", ["x", "k"], ["y"])], [x],
         [numpy_helper.from_array(np.ones((1, 1, 4), np.float32), "k")]),
        ("do not broadcast", [node("Add", ["x", "k"], ["y"])], [x],
         [numpy_helper.from_array(np.ones((5,), np.float32), "k")]),
        ("leaves dimension 1 free", [node("Relu", ["x"], ["y"])],
         [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"])], []),
        ("is DOUBLE, which is not supported", [node("Relu", ["x"], ["y"])],
         [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 4])], []),
        ("attribute 'surprise'", [node("Relu", ["x"], ["y"], surprise=1)], [x], []),
    ]
    for words, nodes, inputs, constants in cases:
        said = attempt(nodes, inputs, constants)
        assert words in said, f"expected '{words}', got '{said}'"
    far = onnx.TensorProto(name="w", data_type=1, dims=[3, 4], data_location=1)
    far.external_data.add(key="location", value="../../etc/passwd")
    assert "external data" in attempt([node("MatMul", ["x", "w"], ["y"])], [x], [far])
    short = onnx.TensorProto(name="w", data_type=1, dims=[4, 1 << 20], raw_data=b"\0" * 16)
    assert "holds 4 values" in attempt([node("MatMul", ["x", "w"], ["y"])], [x], [short])
    wrap = onnx.TensorProto(name="w", data_type=1, dims=[1 << 33, 1 << 33], raw_data=b"\0" * 16)
    assert "2^30" in attempt([node("MatMul", ["x", "w"], ["y"])], [x], [wrap])


def signatures_bind_the_artifact(folder):
    key, public, other = (os.path.join(folder, n) for n in ("k.pem", "p.pem", "o.pem"))
    artifact = os.path.join(folder, "signed.mrm")
    for path in (key, other):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    tool("compile", os.path.join(ZOO, "risk", "model.onnx"), "-o", artifact)
    assert "unsigned" in tool("verify", artifact).stdout
    assert tool("verify", "--key", public, artifact, ok=False).returncode == 1
    tool("sign", key, artifact)
    assert "signed by the given key" in tool("verify", "--key", public, artifact).stdout
    tool("sign", other, artifact)
    assert "not with the key" in tool("verify", "--key", public, artifact, ok=False).stderr
    with open(artifact, "r+b") as f:
        f.seek(-10, io.SEEK_END)
        byte = f.read(1)
        f.seek(-10, io.SEEK_END)
        f.write(bytes([byte[0] ^ 1]))
    assert "does not match" in tool("verify", artifact, ok=False).stderr


def npy_files_that_do_not_fit_are_refused(folder):
    model, path = os.path.join(ZOO, "risk", "model.onnx"), os.path.join(folder, "bad.npy")
    good = io.BytesIO()
    np.save(good, np.zeros((2, 30), np.float32))
    whole = good.getvalue()
    bad = [b"", whole[:9], whole[:100], whole[:-1], whole + b"\0", whole.replace(b"30)", b"31)"),
           whole.replace(b"<f4", b"<f8"), whole.replace(b"False", b"True ")]
    for content in bad:
        with open(path, "wb") as f:
            f.write(content)
        done = tool("run", model, path, "-o", os.path.join(folder, "o.npy"), ok=False)
        assert done.returncode == 1 and "bad.npy" in done.stderr, (content[:90], done.stderr)


def readme_lists_exactly_the_operators_the_compiler_takes(_folder):
    table = tool("operators").stdout
    with open(os.path.join(ROOT, "models", "README.md"), encoding="utf-8") as readme:
        assert table in readme.read(), "paste the output of `millrace-model operators`"


def wrong_expected_output_is_a_fail(folder):
    """The test command must be able to fail."""
    source = "/usr/include/onnx/backend/test/data/node/test_relu"
    case = os.path.join(folder, "test_relu")
    shutil.copytree(source, case)
    path = os.path.join(case, "test_data_set_0", "output_0.pb")
    want = numpy_helper.to_array(onnx.load_tensor(path)).copy()
    want.flat[0] += 0.01
    onnx.save_tensor(numpy_helper.from_array(want), path)
    done = tool("test", case, ok=False)
    assert done.returncode == 1 and done.stdout.endswith("0 passed, 1 failed, 0 unsupported\n")


def main():
    checks = [(zoo_model_equals_its_trainer_and_its_card, n) for n in (
        "digits", "risk", "fraud", "churn", "ranker", "digits-cnn", "forest")]
    checks += [(recommender_equals_torch_and_its_card, "twotower")]
    checks += [(shown_plan_is_sound, n) for n in sorted(os.listdir(ZOO)) if os.path.isdir(os.path.join(ZOO, n))]
    checks += [(f,) for f in (random_networks_equal_numpy, refusals_name_their_cause,
                              signatures_bind_the_artifact, npy_files_that_do_not_fit_are_refused,
                              readme_lists_exactly_the_operators_the_compiler_takes,
                              wrong_expected_output_is_a_fail)]
    failed = 0
    for check, *arguments in checks:
        name = " ".join([check.__name__.replace("_", " "), *arguments])
        try:
            with tempfile.TemporaryDirectory() as folder:
                check(*arguments, folder)
            print(f"ok: {name}")
        except Exception as problem:  # any problem is this check's failure; the others still run
            failed += 1
            print(f"FAILED: {name}: {problem}")
    print(f"{len(checks) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
