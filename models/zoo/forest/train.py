#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Train a random forest on scikit-learn's digits, export it as ai.onnx.ml TreeEnsembleClassifier, write the zoo's files.
"""Deterministic: fixed split and seeds. Run with Debian's /usr/bin/python3 in this folder."""
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

SEED = 7
TREES, LEAVES = 100, 48
HERE = os.path.dirname(os.path.abspath(__file__))


def float_below(t):
    """The largest float32 not above t: for float32 x, x <= t and x <= float_below(t) say the same."""
    near = np.float32(t)
    return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > t else near)


def tree_attributes(forest):
    """The parallel arrays of TreeEnsembleClassifier. A leaf's weights are its class shares over the trees."""
    nodes = {name: [] for name in (
        "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes",
        "nodes_truenodeids", "nodes_falsenodeids",
        "class_treeids", "class_nodeids", "class_ids", "class_weights")}

    def put(prefix, **fields):
        for name, value in fields.items():
            nodes[f"{prefix}_{name}"].append(value)

    for t, estimator in enumerate(forest.estimators_):
        tree = estimator.tree_
        for i in range(tree.node_count):
            leaf = tree.children_left[i] < 0
            put("nodes", treeids=t, nodeids=i, featureids=0 if leaf else int(tree.feature[i]),
                values=0.0 if leaf else float_below(tree.threshold[i]), modes="LEAF" if leaf else "BRANCH_LEQ",
                truenodeids=0 if leaf else int(tree.children_left[i]),
                falsenodeids=0 if leaf else int(tree.children_right[i]))
            share = tree.value[i][0] / tree.value[i][0].sum()
            for c in np.flatnonzero(share) if leaf else ():
                put("class", treeids=t, nodeids=i, ids=int(c), weights=float(share[c] / len(forest.estimators_)))
    return nodes


def export(forest, features):
    classes = [int(c) for c in forest.classes_]
    node = helper.make_node(
        "TreeEnsembleClassifier", ["pixels"], ["label", "probabilities"], domain="ai.onnx.ml",
        classlabels_int64s=classes, post_transform="NONE", **tree_attributes(forest))
    graph = helper.make_graph(
        [node], "forest", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(classes)])])
    model = helper.make_model(graph, ir_version=8, producer_name="millrace-zoo", opset_imports=[
        helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 1)])
    onnx.checker.check_model(model)
    return model


def main():
    data = load_digits()
    x = data.data.astype(np.float32)
    y = data.target.astype(np.int64)
    x_train, x_held, y_train, y_held = train_test_split(
        x, y, test_size=400, random_state=SEED, stratify=y)
    forest = RandomForestClassifier(TREES, max_leaf_nodes=LEAVES, random_state=SEED, n_jobs=1)
    forest.fit(x_train, y_train)
    expected = forest.predict_proba(x_held).astype(np.float32)
    onnx.save(export(forest, x.shape[1]), os.path.join(HERE, "model.onnx"))
    np.save(os.path.join(HERE, "heldout_x.npy"), x_held)
    np.save(os.path.join(HERE, "heldout_y.npy"), y_held.astype(np.float32))
    np.save(os.path.join(HERE, "expected.npy"), expected)
    accuracy = float((expected.argmax(axis=1) == y_held).mean())
    nodes = sum(e.tree_.node_count for e in forest.estimators_)
    print(f"held-out accuracy {accuracy:.4f} over {len(y_held)} rows, {nodes} nodes in {TREES} trees, "
          f"depth up to {max(e.tree_.max_depth for e in forest.estimators_)}")
    return 0 if accuracy >= 0.94 else 1


if __name__ == "__main__":
    sys.exit(main())
