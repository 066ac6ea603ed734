#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Write the seeds of fuzz_onnx and fuzz_artifact: small models, one per operator family.
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CORPUS = os.path.join(ROOT, "tests", "fuzz", "corpus")
TOOL = os.path.join(ROOT, "build", "bin", "millrace-model")
HEAD_BYTES = 5632  # header page and program of a small artifact; the harness adds zero weights


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
    yield ("constant", 13, [node("Constant", [], ["k"], value_floats=[1.0, 2.0, 3.0]),
                            node("Mul", ["x", "k"], ["m"]), node("Identity", ["m"], ["y"])],
           [tensor("x", "n", 3)], [])


def main():
    folders = {kind: os.path.join(CORPUS, kind) for kind in ("fuzz_onnx", "fuzz_artifact")}
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
    for name, opset, nodes, inputs, constants in models():
        graph = helper.make_graph(nodes, name, inputs,
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants)
        path = os.path.join(folders["fuzz_onnx"], name + ".onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
        artifact = os.path.join(folders["fuzz_artifact"], name + ".mrm")
        subprocess.run([TOOL, "compile", path, "-o", artifact, "--max-rows", "8"], check=True)
        os.truncate(artifact, HEAD_BYTES)


if __name__ == "__main__":
    sys.exit(main())
