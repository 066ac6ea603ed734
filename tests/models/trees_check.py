#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Random tree ensembles with everything ONNX-ML allows them, against an evaluation of the same lists in numpy.
"""Node modes and inputs lie on a small grid, so that equality, infinities, NaN, -0 and denormals all occur."""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper
from scipy import special

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, os.environ.get("BUILD", "build"), "bin", "millrace-model")
GRID = np.array([-np.inf, -3e38, -2, -1, -0.5, -1e-40, -0.0, 0.0, 1e-40, 0.5, 1, 1.5, 2, 3e38, np.inf], np.float32)
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
POSTS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


def random_tree(rng, number, depth, features, modes, tracks, a):
    """Append one tree's nodes, in any order but with the root first; returns its leaves' ids."""
    shape, leaves, waiting = [], [], [(0, 0)]
    following = 1
    while waiting:
        node, level = waiting.pop(int(rng.integers(len(waiting))))
        if level >= depth or rng.random() < 0.15 and level:
            shape.append((node, 0, 0, "LEAF"))
            leaves.append(node)
            continue
        yes, no = (following, following + 1) if rng.integers(2) else (following + 1, following)
        following += 2
        shape.append((node, yes, no, modes[rng.integers(len(modes))]))
        waiting += [(yes, level + 1), (no, level + 1)]
    order = [0, *(1 + rng.permutation(len(shape) - 1))]
    for i in order:
        node, yes, no, mode = shape[i]
        a["nodes_treeids"].append(number)
        a["nodes_nodeids"].append(node)
        a["nodes_truenodeids"].append(yes)
        a["nodes_falsenodeids"].append(no)
        a["nodes_modes"].append(mode)
        a["nodes_featureids"].append(int(rng.integers(features)))
        a["nodes_values"].append(float(GRID[rng.integers(len(GRID))]))
        a["nodes_missing_value_tracks_true"].append(int(rng.integers(2)) if tracks else 0)
    return leaves


def random_ensemble(rng, prefix, targets, one_target, low=-1.0, high=1.0, trees=None, depth=None):
    """The attributes of a node: one_target is "no", "a tree" or "all" (then target 0)."""
    a = {f"nodes_{n}": [] for n in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
                                    "falsenodeids", "missing_value_tracks_true")}
    a |= {f"{prefix}_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")}
    features = int(rng.integers(1, 12))
    modes = MODES if rng.integers(2) else MODES[rng.integers(4):][:1]
    tracks = bool(rng.integers(2))
    for number in range(trees or int(rng.integers(1, 30))):
        leaves = random_tree(rng, number, depth or int(rng.integers(0, 7)), features, modes, tracks, a)
        its = int(rng.integers(targets)) if one_target == "a tree" else 0
        for leaf in leaves:
            if one_target != "no":
                wanted = [its] * int(rng.integers(0, 2) or rng.integers(1, 3))
            else:
                wanted = rng.choice(targets, int(rng.integers(0, min(targets, 6) + 1)), replace=bool(rng.integers(2)))
            for target in wanted:
                a[f"{prefix}_treeids"].append(number)
                a[f"{prefix}_nodeids"].append(leaf)
                a[f"{prefix}_ids"].append(int(target))
                a[f"{prefix}_weights"].append(float(np.float32(rng.uniform(low, high))))
    if not a[f"{prefix}_ids"]:
        a[f"{prefix}_treeids"], a[f"{prefix}_nodeids"] = [0], [a["nodes_nodeids"][a["nodes_modes"].index("LEAF")]]
        a[f"{prefix}_ids"], a[f"{prefix}_weights"] = [0], [high]
    return a, features


def random_rows(rng, features):
    rows = GRID[rng.integers(len(GRID), size=(int(rng.integers(1, 70)), features))]
    plain = rng.random(rows.shape)
    rows = np.where(plain < 0.4, rng.normal(size=rows.shape).astype(np.float32), rows)
    return np.where(plain > 0.9, np.float32(np.nan), rows).astype(np.float32)


# ---- what it means, by the letter

def goes_true(mode, x, value, tracks):
    if tracks and np.isnan(x):
        return True
    return {"BRANCH_LEQ": x <= value, "BRANCH_LT": x < value, "BRANCH_GTE": x >= value, "BRANCH_GT": x > value,
            "BRANCH_EQ": x == value, "BRANCH_NEQ": x != value}[mode]


def leaf_of(a, where, tree, row):
    i = where[tree, a["nodes_nodeids"][a["nodes_treeids"].index(tree)]]
    while a["nodes_modes"][i] != "LEAF":
        x, value = row[a["nodes_featureids"][i]], np.float32(a["nodes_values"][i])
        true = goes_true(a["nodes_modes"][i], x, value, a["nodes_missing_value_tracks_true"][i])
        i = where[tree, a["nodes_truenodeids"][i] if true else a["nodes_falsenodeids"][i]]
    return a["nodes_nodeids"][i]


def evaluate(a, prefix, rows, targets, aggregate="SUM", base=None):
    where = {pair: i for i, pair in enumerate(zip(a["nodes_treeids"], a["nodes_nodeids"]))}
    weights = {}
    for tree, node, target, weight in zip(*(a[f"{prefix}_{n}"] for n in ("treeids", "nodeids", "ids", "weights"))):
        weights.setdefault((tree, node), []).append((target, weight))
    trees = sorted(set(a["nodes_treeids"]))
    out = np.zeros((len(rows), targets))
    for r, row in enumerate(rows):
        said = [[] for _ in range(targets)]
        for tree in trees:
            for target, weight in weights.get((tree, leaf_of(a, where, tree, row)), []):
                said[target].append(weight)
        for k, values in enumerate(said):
            if values:
                out[r, k] = {"SUM": sum(values), "AVERAGE": sum(values) / len(trees), "MIN": min(values),
                             "MAX": max(values)}[aggregate]
    return out + (0 if base is None else np.float32(base).astype(np.float64))


def post(kind, s):
    if kind == "LOGISTIC":
        return special.expit(s)
    if kind == "SOFTMAX":
        return special.softmax(s, axis=1)
    if kind == "SOFTMAX_ZERO":
        e = np.where(np.abs(s) <= 1e-7, 0, np.exp(s - s.max(axis=1, keepdims=True)))
        total = e.sum(axis=1, keepdims=True)
        return e / np.where(total == 0, 1, total)
    return special.ndtri(s) if kind == "PROBIT" else s


# ---- runs

def save(folder, kind, attributes, features, outputs):
    node = helper.make_node(kind, ["x"], [name for name, _ in outputs], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph([node], "trees", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", features])],
                              [helper.make_tensor_value_info(name, dtype, None) for name, dtype in outputs])
    path = os.path.join(folder, "model.onnx")
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 3)]), path)
    return path


def tool(*arguments):
    return subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False, timeout=60)


def answers(folder, path, rows, outputs):
    """Every backend and batch size must say the same; returns what the last one said."""
    artifact = os.path.join(folder, "model.mrm")
    done = tool("compile", path, "-o", artifact)
    assert done.returncode == 0, done.stderr
    np.save(os.path.join(folder, "x.npy"), rows)
    files = [os.path.join(folder, f"y{k}.npy") for k in range(outputs)]
    first = None
    for backend, batch in (("scalar", "5"), ("auto", "5"), ("auto", "70")):
        done = tool("run", artifact, os.path.join(folder, "x.npy"), "--backend", backend, "--batch", batch,
                    *(word for f in files for word in ("-o", f)))
        assert done.returncode == 0, done.stderr
        got = [np.load(f) for f in files]
        first = first or got
        for one, other in zip(first, got):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=f"{backend}, batch {batch}")
    return got


def close(got, want, seed):
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=2e-4, atol=2e-5, err_msg=f"seed {seed}")


def regressors_equal_numpy(folder):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        targets = int(rng.choice([1, 1, 2, 3, 17]))
        one = ("no", "a tree", "all")[rng.integers(3)]
        kind, aggregate = POSTS[seed % len(POSTS)], ("SUM", "AVERAGE", "MIN", "MAX")[rng.integers(4)]
        if kind == "PROBIT":  # sums must be probabilities
            aggregate, low, high = "AVERAGE", 0.1, 0.4
        else:
            low, high = -1.0, 1.0
        a, features = random_ensemble(rng, "target", targets, one, low, high)
        base = rng.uniform(0.01, 0.05, targets).astype(np.float32).tolist() if rng.integers(2) else None
        rows = random_rows(rng, features)
        raw = evaluate(a, "target", rows, targets, aggregate, base)
        if kind == "PROBIT":
            raw = np.clip(raw, 0, 1)
            clear = (raw > 1e-3) & (raw < 0.999)
        path = save(folder, "TreeEnsembleRegressor", {
            **a, "n_targets": targets, "aggregate_function": aggregate, "post_transform": kind,
            **({"base_values": base} if base else {})}, features, [("y", TensorProto.FLOAT)])
        got = answers(folder, path, rows, 1)[0].reshape(raw.shape)
        want = post(kind, raw)
        if kind == "PROBIT":
            got, want = got[clear], want[clear]
        close(got, want, seed)


def classifiers_equal_numpy(folder):
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        classes = int(rng.choice([2, 2, 3, 5, 20]))
        labels = rng.permutation(50)[:classes].tolist() if rng.integers(2) else list(range(classes))
        one = ("no", "a tree", "all")[rng.integers(3)]
        low = -1.0 if rng.integers(2) else 0.0
        kind = POSTS[seed % 4]
        a, features = random_ensemble(rng, "class", classes, one, low)
        rows = random_rows(rng, features)
        only = set(a["class_ids"])
        binary = classes == 2 and len(only) == 1
        shares = min(a["class_weights"]) >= 0
        n_base = 1 if binary and only == {0} else classes
        base = rng.uniform(-0.3, 0.3, n_base).astype(np.float32).tolist() if rng.integers(2) else None
        raw = evaluate(a, "class", rows, n_base, "SUM", base)
        if binary and only == {0}:  # the score of the second class, under the first one's number
            s = raw[:, 0]
            margin, guess = s - 0.5 * shares, (s > 0.5 * shares).astype(int)
            scores = (special.expit(np.stack([-s, s], 1)) if kind == "LOGISTIC"
                      else np.stack([shares - s, s], 1))
        elif binary:
            margin, guess = raw[:, 1] - 0.5 * shares, (raw[:, 1] > 0.5 * shares).astype(int)
            scores = post(kind, raw)
        else:
            two = np.sort(raw, axis=1)[:, -2:]
            margin, guess = two[:, 1] - two[:, 0], raw.argmax(axis=1)
            margin = np.where((raw == raw.max(axis=1, keepdims=True)).sum(axis=1) > 1, 0, margin)
            scores = post(kind, raw)
        path = save(folder, "TreeEnsembleClassifier", {
            **a, "classlabels_int64s": labels, "post_transform": kind, **({"base_values": base} if base else {})},
            features, [("label", TensorProto.INT64), ("scores", TensorProto.FLOAT)])
        label, got = answers(folder, path, rows, 2)
        assert label.dtype == np.int64
        close(got, scores, seed)
        clear = np.abs(margin) > 1e-5
        assert (label.reshape(-1) == np.array(labels)[guess])[clear].all(), f"seed {seed}"


def leaves_of_thousands_of_classes(folder):
    """Too many targets for a row of them each: the leaves become lists."""
    rng = np.random.default_rng(7)
    a, features = random_ensemble(rng, "target", 20000, "no", trees=12, depth=6)
    rows = random_rows(rng, features)
    for aggregate in ("SUM", "MIN"):
        path = save(folder, "TreeEnsembleRegressor", {**a, "n_targets": 20000, "aggregate_function": aggregate},
                    features, [("y", TensorProto.FLOAT)])
        close(answers(folder, path, rows, 1)[0], evaluate(a, "target", rows, 20000, aggregate), aggregate)


def string_labels_are_their_index(folder):
    a, features = random_ensemble(np.random.default_rng(3), "class", 3, "no", 0.0)
    rows = random_rows(np.random.default_rng(4), features)
    path = save(folder, "TreeEnsembleClassifier", {**a, "classlabels_strings": ["ham", "spam", "eggs"]}, features,
                [("label", TensorProto.INT64), ("scores", TensorProto.FLOAT)])
    label, scores = answers(folder, path, rows, 2)
    assert (label.reshape(-1) == scores.reshape(-1, 3).argmax(axis=1)).all()


# ---- refusals

def stump():
    return {"nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
            "nodes_values": [0.5, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
            "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0],
            "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.0, 2.0], "n_targets": 1}


def malformed_ensembles_are_refused_by_name(folder):
    deep = {"nodes_modes": ["BRANCH_LEQ"] * 3, "nodes_truenodeids": [1, 2, 0], "nodes_falsenodeids": [2, 1, 0]}
    cases = [
        ("a cycle", {"nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"], "nodes_truenodeids": [1, 0, 0]}),
        ("a cycle", deep),
        ("a cycle", {"nodes_truenodeids": [0, 0, 0]}),
        ("which does not exist", {"nodes_truenodeids": [7, 0, 0]}),
        ("which does not exist", {"nodes_falsenodeids": [-1, 0, 0]}),
        ("which does not exist", {"target_nodeids": [1, 9]}),
        ("which does not exist", {"target_treeids": [0, 1 << 40]}),
        ("is not reached", {"nodes_modes": ["LEAF", "LEAF", "LEAF"]}),
        ("listed twice", {"nodes_nodeids": [0, 1, 1]}),
        ("nodes_values has 2 entries", {"nodes_values": [0.5, 0.0]}),
        ("nodes_modes has 2 entries", {"nodes_modes": ["BRANCH_LEQ", "LEAF"]}),
        ("target_weights has 1 entries", {"target_weights": [1.0]}),
        ("nodes_missing_value_tracks_true has 1 entries", {"nodes_missing_value_tracks_true": [1]}),
        ("nodes_values[0] is NaN", {"nodes_values": [float("nan"), 0.0, 0.0]}),
        ("target_weights[1] is NaN", {"target_weights": [1.0, float("nan")]}),
        ("nodes_modes[1] is 'BRANCH_MEMBER'", {"nodes_modes": ["BRANCH_LEQ", "BRANCH_MEMBER", "LEAF"]}),
        ("nodes_featureids[0] is 4 of 4 features", {"nodes_featureids": [4, 0, 0]}),
        ("nodes_featureids[0] is -1", {"nodes_featureids": [-1, 0, 0]}),
        ("target_ids[1] is 1 of 1", {"target_ids": [0, 1]}),
        ("target_ids[1] is -9223372036854775808", {"target_ids": [0, -(1 << 63)]}),
        ("0 nodes", {"nodes_nodeids": None}),
        ("targets", {"n_targets": 1 << 60}),
        ("2 base values for 1 targets", {"base_values": [1.0, 2.0]}),
        ("post_transform", {"post_transform": "PLAIN"}),
        ("aggregate_function", {"aggregate_function": "MEDIAN"}),
        ("attribute 'nodes_values_as_tensor'", {"nodes_values_as_tensor": helper.make_tensor(
            "t", TensorProto.DOUBLE, [3], [0.5, 0.0, 0.0])}),
    ]
    for words, change in cases:
        a = {k: v for k, v in (stump() | change).items() if v is not None}
        done = tool("compile", save(folder, "TreeEnsembleRegressor", a, 4, [("y", TensorProto.FLOAT)]), "-o",
                    os.path.join(folder, "refused.mrm"))
        assert done.returncode == 1 and words in done.stderr, f"expected '{words}', got '{done.stderr}'"
    done = tool("compile", save(folder, "TreeEnsembleRegressor", stump(), 4, [("y", TensorProto.FLOAT)]), "-o",
                os.path.join(folder, "taken.mrm"))
    assert done.returncode == 0, done.stderr


def main():
    checks = (regressors_equal_numpy, classifiers_equal_numpy, leaves_of_thousands_of_classes,
              string_labels_are_their_index, malformed_ensembles_are_refused_by_name)
    failed = 0
    for check in checks:
        name = check.__name__.replace("_", " ")
        try:
            with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
                check(folder)
            print(f"ok: {name}")
        except Exception as problem:  # any problem is this check's failure; the others still run
            failed += 1
            print(f"FAILED: {name}: {problem}")
    print(f"{len(checks) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
