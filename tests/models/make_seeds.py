#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Write the seeds of fuzz_onnx and fuzz_artifact (small models, one per operator family) and fuzz_npy.
import json
import os
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CORPUS = os.path.join(ROOT, "tests", "fuzz", "corpus")
TOOL = os.path.join(ROOT, "build", "bin", "millrace-model")
CONV_HEAD_BYTES = 12288  # as HEAD_BYTES, with three general operators
HEAD_BYTES = 5632  # header page and program of a small artifact; the harness adds zero weights
WHOLE = ("trees", "attention", "norm", "lstm", "gru", "lookups")
WEIGHTS = 8192  # where they begin in a small artifact: trees are nothing without theirs


def tensor(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def constant(name, array):
    return numpy_helper.from_array(array, name)


def models():
    node, ones = helper.make_node, np.ones((3, 2), np.float32)
    shape = np.array([0, 2, -1], np.int64)
    yield "relu", 13, [node("Relu", ["x"], ["y"])], [tensor("x", "n", 3)], []
    yield "clip", 6, [node("Clip", ["x"], ["y"], min=-1.0, max=1.0)], [tensor("x", "n", 3)], []
    yield "add", 13, [node("Add", ["x", "z"], ["y"])], [tensor("x", 2, 3), tensor("z", 3)], []
    yield "softmax", 11, [node("Softmax", ["x"], ["y"], axis=1)], [tensor("x", 2, 3, 2)], []
    yield "softmax13", 13, [node("Softmax", ["x"], ["y"], axis=1)], [tensor("x", "n", 3, 2)], []
    yield "matmul", 13, [node("MatMul", ["x", "z"], ["y"])], [tensor("x", 2, 2, 3), tensor("z", 3, 4)], []
    yield ("gemm", 13, [node("Gemm", ["x", "w", "b"], ["h"], alpha=0.5, beta=2.0),
                        node("Tanh", ["h"], ["y"])], [tensor("x", "n", 3)],
           [constant("w", ones), constant("b", np.ones(2, np.float32))])
    yield ("gemm_all", 13, [node("Gemm", ["x", "z", "c"], ["y"], transA=1, transB=1, alpha=0.5)],
           [tensor("x", 3, 2), tensor("z", 4, 3), tensor("c", 1, 4)], [])
    yield ("reshape", 13, [node("Dropout", ["x"], ["d"]), node("Reshape", ["d", "s"], ["r"]),
                           node("MatMul", ["r", "w"], ["m"]), node("Flatten", ["m"], ["y"])],
           [tensor("x", "n", 6)], [constant("s", shape), constant("w", ones)])
    yield ("conv", 13, [node("Conv", ["x", "w", "c"], ["a"], pads=[1, 1, 1, 1]), node("Relu", ["a"], ["r"]),
                        node("Conv", ["r", "d"], ["e"], group=2), node("Add", ["e", "r"], ["s"]),
                        node("MaxPool", ["s"], ["y"], kernel_shape=[2, 2])], [tensor("x", "n", 1, 4, 4)],
           [constant("w", np.ones((2, 1, 3, 3), np.float32)), constant("c", np.ones(2, np.float32)),
            constant("d", np.ones((2, 1, 1, 1), np.float32))])
    yield ("constant", 13, [node("Constant", [], ["k"], value_floats=[1.0, 2.0, 3.0]),
                            node("Mul", ["x", "k"], ["m"]), node("Identity", ["m"], ["y"])],
           [tensor("x", "n", 3)], [])
    columns = [constant(f"c{k}", np.int64(k)) for k in range(3)]
    yield ("lookups", 13, [node("Cast", ["x"], ["i"], to=TensorProto.INT64)] +
           [n for k in range(3) for n in (node("Gather", ["i", f"c{k}"], [f"i{k}"], axis=1),
                                          node("Gather", [f"t{k % 2}", f"i{k}"], [f"g{k}"]))] +
           [node("Concat", ["x", "g0", "g1", "g2"], ["y"], axis=1)], [tensor("x", "n", 3)],
           columns + [constant("t0", ones), constant("t1", np.ones((5, 2), np.float32))])
    yield ("in_place", 13, [node("Gemm", ["x", "w"], ["h"]), node("Tanh", ["h"], ["t"]), node("Mul", ["h", "t"], ["m"]),
                            node("Sub", ["m", "h"], ["s"]), node("Softmax", ["s"], ["y"])], [tensor("x", "n", 3)],
           [constant("w", ones)])
    yield from sequence_models()
    yield from ml_models()


def sequence_models():
    """Two heads of attention over three tokens, four wide, with a mask; a norm and an activation as chains; cells."""
    node, x = helper.make_node, [tensor("x", "n", 3, 4)]
    ints = lambda name, *values: constant(name, np.array(values, np.int64))
    split = [node("Reshape", [p, "s"], [f"{p}4"]) for p in "qkv"]
    yield ("attention", 13, [
        node("MatMul", ["x", "w"], ["p"]), node("Split", ["p"], ["q", "k", "v"], axis=2), *split,
        node("Transpose", ["q4"], ["qt"], perm=[0, 2, 1, 3]), node("Transpose", ["k4"], ["kt"], perm=[0, 2, 3, 1]),
        node("Transpose", ["v4"], ["vt"], perm=[0, 2, 1, 3]), node("MatMul", ["qt", "kt"], ["s0"]),
        node("Mul", ["s0", "c"], ["s1"]), node("Add", ["s1", "m"], ["s2"]), node("Softmax", ["s2"], ["a"], axis=3),
        node("MatMul", ["a", "vt"], ["y0"]), node("Transpose", ["y0"], ["y1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["y1", "t"], ["y"])], x,
        [constant("w", np.ones((4, 12), np.float32)), ints("s", 0, 3, 2, 2), ints("t", 0, 3, 4),
         constant("c", np.array(0.5, np.float32)), constant("m", np.zeros((3, 3), np.float32))])
    yield ("norm", 13, [
        node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]), node("Pow", ["d", "two"], ["p"]),
        node("ReduceMean", ["p"], ["v"], axes=[-1]), node("Add", ["v", "e"], ["ve"]), node("Sqrt", ["ve"], ["r"]),
        node("Div", ["d", "r"], ["n"]), node("Sigmoid", ["n"], ["g"]), node("Mul", ["n", "g"], ["y"])], x,
        [constant("two", np.array(2, np.float32)), constant("e", np.array(1e-5, np.float32))])
    for cell, gates in (("LSTM", 4), ("GRU", 3)):
        yield (cell.lower(), 14, [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node(cell, ["t", "w", "r", "b"], ["h"], hidden_size=2, direction="bidirectional"),
            node("Transpose", ["h"], ["y"], perm=[2, 0, 1, 3])], x,
            [constant("w", np.ones((2, 2 * gates, 4), np.float32)), constant("r", np.ones((2, 2 * gates, 2), np.float32)),
             constant("b", np.ones((2, 4 * gates), np.float32))])


def ml_models():
    def node(kind, *inputs, outputs=("y",), **attributes):
        return helper.make_node(kind, list(inputs), list(outputs), domain="ai.onnx.ml", **attributes)

    def trees(prefix, modes, ids, weights):
        """Two trees of five nodes: a branch, a leaf, a branch with two leaves."""
        return {"nodes_treeids": [0] * 5 + [1] * 5, "nodes_nodeids": [0, 1, 2, 3, 4] * 2,
                "nodes_featureids": [0, 0, 2, 0, 0, 1, 0, 0, 0, 0], "nodes_values": [0.5, 0, -1, 0, 0, 0, 0, 1, 0, 0],
                "nodes_modes": [modes[0], "LEAF", modes[1], "LEAF", "LEAF", modes[2], "LEAF", modes[3], "LEAF", "LEAF"],
                "nodes_truenodeids": [1, 0, 3, 0, 0] * 2, "nodes_falsenodeids": [2, 0, 4, 0, 0] * 2,
                "nodes_missing_value_tracks_true": [0, 0, 1, 0, 0] * 2, f"{prefix}_treeids": [0, 0, 0, 1, 1, 1],
                f"{prefix}_nodeids": [1, 3, 4] * 2, f"{prefix}_ids": ids, f"{prefix}_weights": weights}

    x, weights = [tensor("x", "n", 3)], [1.0, -2.0, 0.5, 3.0, 0.25, 4.0]
    yield ("trees_sum", 13, [node("TreeEnsembleRegressor", "x", n_targets=1, **trees(
        "target", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE"], [0] * 6, weights))], x, [])
    yield ("trees_max", 13, [node("TreeEnsembleRegressor", "x", n_targets=3, aggregate_function="MAX", **trees(
        "target", ["BRANCH_EQ", "BRANCH_NEQ", "BRANCH_LEQ", "BRANCH_LEQ"], [0, 1, 2, 2, 1, 1], weights))], x, [])
    yield ("trees_classes", 13, [node(
        "TreeEnsembleClassifier", "x", outputs=("l", "p"), post_transform="SOFTMAX", classlabels_int64s=[4, 7, 9],
        **trees("class", ["BRANCH_LEQ"] * 4, [0, 1, 2, 2, 1, 0], weights)), node("ZipMap", "p")], x, [])
    yield ("ml_linear", 13, [node("Imputer", "x", outputs=["i"], imputed_value_floats=[1.0, 2.0, 3.0],
                                  replaced_value_float=float("nan")),
                             node("Scaler", "i", outputs=["s"], offset=[1.0, 0.0, 0.5], scale=[2.0]),
                             node("Normalizer", "s", outputs=["n"], norm="L2"),
                             node("LinearClassifier", "n", outputs=["y", "p"], coefficients=[1.0, 2.0, 3.0] * 3,
                                  intercepts=[0.5, 0.0, 1.0], classlabels_ints=[0, 1, 2], post_transform="LOGISTIC")],
           x, [])
    yield ("ml_encoder", 13, [node("Binarizer", "x", outputs=["b"], threshold=0.5),
                              node("FeatureVectorizer", "b", "x", outputs=["f"], inputdimensions=[3, 3]),
                              node("LabelEncoder", "f", keys_floats=[0.0, 1.0], values_floats=[5.0, 6.0])], x, [])


def reduced(folders):
    """One wide layer in bfloat16 and in int8 (also with a given range)."""
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    graph = helper.make_graph([node], "wide", [tensor("x", "n", 5)], [tensor("y", "n", 18)],
                              [constant("w", np.ones((5, 18), np.float32)), constant("b", np.ones(18, np.float32))])
    path = os.path.join(folders["fuzz_onnx"], "wide.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    rows = os.path.join(CORPUS, "rows.npy")
    np.save(rows, np.ones((3, 5), np.float32))
    for name, options in (("bf16", ["bf16"]), ("int8", ["int8"]), ("int8_range", ["int8", "--calibrate", rows])):
        artifact = os.path.join(folders["fuzz_artifact"], name + ".mrm")
        subprocess.run([TOOL, "compile", path, "-o", artifact, "--max-rows", "8", "--precision", *options], check=True)
        os.truncate(artifact, HEAD_BYTES)
    os.remove(rows)


def arrays(folder):
    for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "V2"):
        np.save(os.path.join(folder, kind + ".npy"), np.zeros((2, 3), kind))
    np.save(os.path.join(folder, "scalar.npy"), np.float32(1))
    np.save(os.path.join(folder, "fortran.npy"), np.asfortranarray(np.ones((2, 3), np.float32)))


def main():
    folders = {kind: os.path.join(CORPUS, kind) for kind in ("fuzz_onnx", "fuzz_artifact", "fuzz_npy")}
    for folder in folders.values():  # what fuzzers have found stays beside
        os.makedirs(folder, exist_ok=True)
    for name, opset, nodes, inputs, constants in models():
        graph = helper.make_graph(nodes, name, inputs,
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants)
        path = os.path.join(folders["fuzz_onnx"], name + ".onnx")
        ml = [helper.make_opsetid("ai.onnx.ml", 3)] if any(n.domain for n in nodes) else []
        onnx.save(helper.make_model(graph, opset_imports=[
            helper.make_opsetid("", opset), *ml]), path)
        if name.startswith("ml_"):
            continue  # as artifacts they are operators of families that are there already
        artifact = os.path.join(folders["fuzz_artifact"], name + ".mrm")
        subprocess.run([TOOL, "compile", path, "-o", artifact, "--max-rows", "8"], check=True)
        told = json.loads(subprocess.run([TOOL, "inspect", "--json", artifact], check=True, capture_output=True).stdout)
        heads = dict.fromkeys(WHOLE, WEIGHTS + told["weights_bytes"]) | {"conv": CONV_HEAD_BYTES}
        os.truncate(artifact, heads.get(name.split("_")[0], HEAD_BYTES))
    reduced(folders)
    arrays(folders["fuzz_npy"])


if __name__ == "__main__":
    sys.exit(main())
