# SPDX-License-Identifier: BSD-3-Clause
# Graphs as skl2onnx, gradient-boosting converters, tf2onnx and quantisers write them; answers by scikit-learn and numpy.
"""CASES: name -> builder of (ModelProto, inputs, expected outputs). Rows are the batch."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from sklearn import cluster, datasets, decomposition, ensemble, linear_model, naive_bayes, neural_network, preprocessing, tree

ROWS = 9
CASES = {}


def case(builder):
    CASES[f"graph {builder.__name__}"] = builder
    return builder


class Graph:
    """Nodes in order; arrays become initializers."""

    def __init__(self, opset=13, ml=1):
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []
        self.imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ml)]

    def input(self, name, *shape, kind=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["N", *shape]))
        return name

    def add(self, kind, *inputs, outputs=1, **attributes):
        names = []
        for value in inputs:
            if isinstance(value, np.ndarray) or np.isscalar(value) and not isinstance(value, str):
                self.constants.append(numpy_helper.from_array(np.asarray(value), f"c{len(self.constants)}"))
                value = self.constants[-1].name
            names.append(value)
        out = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, out, name=f"n{len(self.nodes)}", **attributes))
        return out[0] if outputs == 1 else out

    def ml(self, kind, *inputs, outputs=1, **attributes):
        return self.add(kind, *inputs, outputs=outputs, domain="ai.onnx.ml", **attributes)

    def model(self, *outputs):
        kinds = [(o, TensorProto.FLOAT) if isinstance(o, str) else o for o in outputs]
        graph = helper.make_graph(self.nodes, "graph", self.inputs, [
            helper.make_tensor_value_info(name, kind, None) for name, kind in kinds], self.constants)
        return helper.make_model(graph, ir_version=8, opset_imports=self.imports)


def iris():
    x, y = datasets.load_iris(return_X_y=True)
    return x.astype(np.float32), y, x[::17].astype(np.float32)


def diabetes():
    x, y = datasets.load_diabetes(return_X_y=True)
    return x.astype(np.float32), y, x[::50].astype(np.float32)


def cancer():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return x.astype(np.float32), y, x[::64].astype(np.float32)


# ---- linear models and preparation

def linear_classifier(g, x, model, post):
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # binary: one row for either class, as skl2onnx writes it
        coefficients, intercepts = np.vstack([-coefficients, coefficients]), np.hstack([-intercepts, intercepts])
    return g.ml("LinearClassifier", x, outputs=2, coefficients=coefficients.ravel().astype(np.float32).tolist(),
                intercepts=intercepts.astype(np.float32).tolist(), multi_class=1, post_transform=post,
                classlabels_ints=model.classes_.tolist())


def logistic(post, multi, data):
    def build():
        x, y, rows = data()
        scaler = preprocessing.StandardScaler().fit(x)
        model = linear_model.LogisticRegression(multi_class=multi).fit(scaler.transform(x), y)
        g = Graph()
        scaled = g.ml("Scaler", g.input("x", x.shape[1]), offset=scaler.mean_.astype(np.float32).tolist(),
                      scale=(1 / scaler.scale_).astype(np.float32).tolist())
        label, score = linear_classifier(g, scaled, model, post)
        if post == "LOGISTIC":  # one against the rest: skl2onnx normalises with Normalizer L1
            score = g.ml("Normalizer", score, norm="L1")
        return g.model((label, TensorProto.INT64), score), [rows], [
            model.predict(scaler.transform(rows)), model.predict_proba(scaler.transform(rows))]
    return build


CASES["graph logistic_softmax"] = logistic("SOFTMAX", "multinomial", iris)
CASES["graph logistic_ovr"] = logistic("LOGISTIC", "ovr", iris)
CASES["graph logistic_binary"] = logistic("LOGISTIC", "ovr", cancer)


@case
def linear_regression():
    x, y, rows = diabetes()
    model = linear_model.Ridge().fit(x, y)
    g = Graph()
    out = g.ml("LinearRegressor", g.input("x", 10), coefficients=model.coef_.astype(np.float32).tolist(),
               intercepts=[float(model.intercept_)])
    return g.model(out), [rows], [model.predict(rows)]


@case
def linear_regression_two_targets_as_gemm():
    x, y, rows = diabetes()
    model = linear_model.LinearRegression().fit(x, np.stack([y, -2 * y + 1], axis=1))
    g = Graph(opset=9)
    out = g.add("Gemm", g.input("x", 10), model.coef_.astype(np.float32), model.intercept_.astype(np.float32), transB=1)
    return g.model(out), [rows], [model.predict(rows)]


def normalizer(norm):
    def build():
        rows = np.random.normal(size=(ROWS, 6)).astype(np.float32)
        g = Graph()
        return g.model(g.ml("Normalizer", g.input("x", 6), norm=norm.upper())), [rows], [
            preprocessing.Normalizer(norm).transform(rows)]
    return build


for _norm in ("l1", "l2"):
    CASES[f"graph normalizer_{_norm}"] = normalizer(_norm)


@case
def min_max_scaler():
    x, _, rows = iris()
    scaler = preprocessing.MinMaxScaler().fit(x)
    g = Graph()
    out = g.add("Add", g.add("Mul", g.input("x", 4), scaler.scale_.astype(np.float32)), scaler.min_.astype(np.float32))
    return g.model(out), [rows], [scaler.transform(rows)]


@case
def imputer_then_binarizer():
    rows = np.random.normal(size=(ROWS, 4)).astype(np.float32)
    rows[2, 1] = rows[5, 3] = np.nan
    g = Graph()
    filled = g.ml("Imputer", g.input("x", 4), imputed_value_floats=[0.5, -0.5, 0.25, 2.0], replaced_value_float=float("nan"))
    whole = np.where(np.isnan(rows), np.array([0.5, -0.5, 0.25, 2.0], np.float32), rows)
    return g.model(filled, g.ml("Binarizer", filled, threshold=0.1)), [rows], [whole, whole > 0.1]


@case
def pca():
    x, _, rows = diabetes()
    model = decomposition.PCA(3).fit(x)
    g = Graph()
    out = g.add("MatMul", g.add("Sub", g.input("x", 10), model.mean_.astype(np.float32)),
                model.components_.T.astype(np.float32))
    return g.model(out), [rows], [model.transform(rows)]


@case
def k_means():
    x, _, rows = iris()
    model = cluster.KMeans(4, n_init=2, random_state=1).fit(x)
    centres = model.cluster_centers_.astype(np.float32)
    g = Graph()
    inputs = g.input("x", 4)
    product = g.add("Gemm", inputs, centres, (centres ** 2).sum(axis=1), alpha=-2.0, transB=1)
    squared = g.add("Add", g.add("ReduceSumSquare", inputs, axes=[1], keepdims=1), product)
    label = g.add("ArgMin", squared, axis=1, keepdims=0)
    return g.model((label, TensorProto.INT64), g.add("Sqrt", squared)), [rows], [
        model.predict(rows), model.transform(rows)]


@case
def gaussian_naive_bayes():
    x, y, rows = iris()
    model = naive_bayes.GaussianNB().fit(x, y)
    constant = np.log(model.class_prior_) - 0.5 * np.log(2 * np.pi * model.var_).sum(axis=1)
    g = Graph()
    wide = g.add("Reshape", g.input("x", 4), np.array([-1, 1, 4], np.int64))
    squared = g.add("Pow", g.add("Sub", wide, model.theta_[None].astype(np.float32)), np.float32(2))
    scaled = g.add("ReduceSum", g.add("Div", squared, (2 * model.var_)[None].astype(np.float32)),
                   np.array([2], np.int64), keepdims=0)
    joint = g.add("Sub", constant[None].astype(np.float32), scaled)
    total = g.add("ReduceLogSumExp", joint, axes=[1], keepdims=1)
    return g.model(g.add("Exp", g.add("Sub", joint, total))), [rows], [model.predict_proba(rows)]


@case
def mlp_classifier():
    """skl2onnx: Cast, MatMul, Add, activation; label by ArgMax and ArrayFeatureExtractor."""
    x, y, rows = iris()
    model = neural_network.MLPClassifier((12, 8), max_iter=60, random_state=2).fit(x, y)
    g = Graph()
    value = g.add("Cast", g.input("x", 4), to=TensorProto.FLOAT)
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_)):
        value = g.add("Add", g.add("MatMul", value, w.astype(np.float32)), b[None].astype(np.float32))
        value = g.add("Relu", value) if i + 1 < len(model.coefs_) else g.add("Softmax", value, axis=1)
    best = g.add("ArgMax", value, axis=1, keepdims=0)
    label = g.add("Reshape", g.ml("ArrayFeatureExtractor", model.classes_, best), np.array([-1], np.int64))
    return g.model((label, TensorProto.INT64), value), [rows], [model.predict(rows), model.predict_proba(rows)]


# ---- trees

def float_below(t):
    near = np.float32(t)
    return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > t else near)


def forest_attributes(trees, leaf_weights, kind, mode="BRANCH_LEQ"):
    """leaf_weights(tree, node) -> [(class or target, weight)]."""
    a = {f"nodes_{n}": [] for n in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
                                    "hitrates", "missing_value_tracks_true")}
    a |= {f"{kind}_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")}
    for t, one in enumerate(trees):
        for i in range(one.node_count):
            leaf = one.children_left[i] < 0
            for key, value in (("treeids", t), ("nodeids", i), ("featureids", 0 if leaf else int(one.feature[i])),
                               ("values", 0.0 if leaf else float_below(one.threshold[i])), ("modes", "LEAF" if leaf else mode),
                               ("truenodeids", 0 if leaf else int(one.children_left[i])), ("hitrates", 1.0),
                               ("falsenodeids", 0 if leaf else int(one.children_right[i])), ("missing_value_tracks_true", 0)):
                a[f"nodes_{key}"].append(value)
            for target, weight in leaf_weights(one, i) if leaf else ():
                for key, value in (("treeids", t), ("nodeids", i), ("ids", target), ("weights", float(weight))):
                    a[f"{kind}_{key}"].append(value)
    return a


def shares(n):
    """Class shares of a leaf. Of two classes the second's alone, under id 0: the binary convention of all converters."""
    def of(one, i):
        counts = one.value[i][0] / one.value[i][0].sum() / n
        return enumerate(counts if len(counts) != 2 else counts[1:])
    return of


def tree_classifier(make, data):
    def build():
        x, y, rows = data()
        model = make().fit(x, y)
        trees = [e.tree_ for e in getattr(model, "estimators_", [model])]
        g = Graph()
        label, score = g.ml("TreeEnsembleClassifier", g.input("x", x.shape[1]), outputs=2, post_transform="NONE",
                            classlabels_int64s=model.classes_.tolist(),
                            **forest_attributes(trees, shares(len(trees)), "class"))
        return g.model((label, TensorProto.INT64), score), [rows], [model.predict(rows), model.predict_proba(rows)]
    return build


def tree_regressor(make, weight, base=lambda m: 0.0, aggregate="SUM"):
    def build():
        x, y, rows = diabetes()
        model = make().fit(x, y)
        trees = [e.tree_ for e in np.ravel(getattr(model, "estimators_", [model]))]
        g = Graph()
        out = g.ml("TreeEnsembleRegressor", g.input("x", 10), n_targets=1, base_values=[float(base(model))],
                   aggregate_function=aggregate, post_transform="NONE",
                   **forest_attributes(trees, lambda one, i: [(0, one.value[i][0][0] * weight)], "target"))
        return g.model(out), [rows], [model.predict(rows)]
    return build


CASES["graph decision_tree"] = tree_classifier(lambda: tree.DecisionTreeClassifier(random_state=1), iris)
CASES["graph random_forest"] = tree_classifier(lambda: ensemble.RandomForestClassifier(20, random_state=1), iris)
CASES["graph random_forest_binary"] = tree_classifier(
    lambda: ensemble.RandomForestClassifier(15, max_depth=6, random_state=1), cancer)
CASES["graph extra_trees"] = tree_classifier(lambda: ensemble.ExtraTreesClassifier(12, max_depth=7, random_state=1), cancer)
CASES["graph decision_tree_regressor"] = tree_regressor(lambda: tree.DecisionTreeRegressor(max_depth=6, random_state=1), 1)
CASES["graph random_forest_regressor"] = tree_regressor(
    lambda: ensemble.RandomForestRegressor(10, max_depth=7, random_state=1), 0.1)
CASES["graph random_forest_regressor_average"] = tree_regressor(
    lambda: ensemble.RandomForestRegressor(10, max_depth=5, random_state=1), 1, aggregate="AVERAGE")
CASES["graph gradient_boosting_regressor"] = tree_regressor(
    lambda: ensemble.GradientBoostingRegressor(n_estimators=25, random_state=1), 0.1,
    base=lambda m: m.init_.constant_[0][0])


@case
def gradient_boosting_binary():
    """One weight a leaf for class 1, a base value, LOGISTIC: what boosting converters write."""
    x, y, rows = cancer()
    model = ensemble.GradientBoostingClassifier(n_estimators=20, random_state=1).fit(x, y)
    prior = model.init_.class_prior_[1]
    attributes = forest_attributes([e.tree_ for e in model.estimators_[:, 0]],
                                   lambda one, i: [(0, one.value[i][0][0] * model.learning_rate)], "class")
    g = Graph()
    label, score = g.ml("TreeEnsembleClassifier", g.input("x", 30), outputs=2, post_transform="LOGISTIC",
                        classlabels_int64s=[0, 1], base_values=[float(np.log(prior / (1 - prior)))], **attributes)
    return g.model((label, TensorProto.INT64), score), [rows], [model.predict(rows), model.predict_proba(rows)]


@case
def gradient_boosting_softmax():
    x, y, rows = iris()
    model = ensemble.GradientBoostingClassifier(n_estimators=10, random_state=1).fit(x, y)
    trees = [e.tree_ for stage in model.estimators_ for e in stage]
    of = {id(t): i % 3 for i, t in enumerate(trees)}
    attributes = forest_attributes(
        trees, lambda one, i: [(of[id(one)], one.value[i][0][0] * model.learning_rate)], "class")
    g = Graph()
    label, score = g.ml("TreeEnsembleClassifier", g.input("x", 4), outputs=2, post_transform="SOFTMAX",
                        classlabels_int64s=[0, 1, 2], base_values=np.log(model.init_.class_prior_).astype(np.float32).tolist(),
                        **attributes)
    return g.model((label, TensorProto.INT64), score), [rows], [model.predict(rows), model.predict_proba(rows)]


@case
def boosted_trees_strictly_less():
    """XGBoost and LightGBM style: BRANCH_LT, missing values go a marked way."""
    x, y, rows = diabetes()
    model = ensemble.GradientBoostingRegressor(n_estimators=8, random_state=3).fit(x, y)
    trees = [e.tree_ for e in model.estimators_[:, 0]]
    attributes = forest_attributes(trees, lambda one, i: [(0, one.value[i][0][0])], "target", "BRANCH_LT")
    attributes["nodes_missing_value_tracks_true"] = [1] * len(attributes["nodes_modes"])
    rows = rows.copy()
    rows[1, :3] = np.nan
    want = []
    for row in rows:
        total = 0.0
        for one in trees:
            i = 0
            while one.children_left[i] >= 0:
                value = row[one.feature[i]]
                low = np.isnan(value) or value < np.float32(float_below(one.threshold[i]))
                i = one.children_left[i] if low else one.children_right[i]
            total += one.value[i][0][0]
        want.append(total)
    g = Graph()
    out = g.ml("TreeEnsembleRegressor", g.input("x", 10), n_targets=1, post_transform="NONE", **attributes)
    return g.model(out), [rows], [np.array(want)]


# ---- Keras by tf2onnx

@case
def keras_dense():
    rows = np.random.normal(size=(ROWS, 8)).astype(np.float32)
    w, b = np.random.normal(size=(8, 5)).astype(np.float32), np.random.normal(size=5).astype(np.float32)
    g = Graph()
    out = g.add("Sigmoid", g.add("Add", g.add("MatMul", g.input("x", 8), w), b))
    return g.model(out), [rows], [1 / (1 + np.exp(-(rows @ w + b)))]


@case
def keras_conv_channels_last():
    rows = np.random.normal(size=(ROWS, 6, 6, 2)).astype(np.float32)
    w = np.random.normal(size=(3, 2, 3, 3)).astype(np.float32)
    g = Graph()
    first = g.add("Transpose", g.input("x", 6, 6, 2), perm=[0, 3, 1, 2])
    conv = g.add("Relu", g.add("Conv", first, w, auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[3, 3]))
    pooled = g.add("Squeeze", g.add("GlobalAveragePool", conv), np.array([2, 3], np.int64))
    want = np.zeros((ROWS, 3, 3, 3))
    padded = np.pad(rows.transpose(0, 3, 1, 2), ((0, 0), (0, 0), (0, 1), (0, 1)))
    for i in range(3):
        for j in range(3):
            want[:, :, i, j] = np.einsum("nchw,ochw->no", padded[:, :, 2 * i:2 * i + 3, 2 * j:2 * j + 3], w)
    return g.model(pooled), [rows], [np.maximum(want, 0).mean(axis=(2, 3))]


@case
def keras_embedding_flatten():
    table, w = np.random.normal(size=(20, 4)).astype(np.float32), np.random.normal(size=(12, 2)).astype(np.float32)
    rows = np.random.randint(0, 20, (ROWS, 3)).astype(np.float32)  # Keras feeds floats and casts
    g = Graph()
    found = g.add("Gather", table, g.add("Cast", g.input("x", 3), to=TensorProto.INT32))
    out = g.add("MatMul", g.add("Reshape", found, np.array([-1, 12], np.int64)), w)
    return g.model(out), [rows], [table[rows.astype(int)].reshape(ROWS, 12) @ w]


@case
def keras_layer_normalization():
    rows = np.random.normal(size=(ROWS, 10)).astype(np.float32)
    gamma, beta = np.random.normal(size=(2, 10)).astype(np.float32)
    g = Graph()
    x = g.input("x", 10)
    mean = g.add("ReduceMean", x, axes=[1], keepdims=1)
    centred = g.add("Sub", x, mean)
    variance = g.add("ReduceMean", g.add("Mul", centred, centred), axes=[1], keepdims=1)
    scale = g.add("Mul", g.add("Reciprocal", g.add("Sqrt", g.add("Add", variance, np.float32(1e-3)))), gamma)
    out = g.add("Add", g.add("Mul", x, scale), g.add("Sub", beta, g.add("Mul", mean, scale)))
    want = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-3) * gamma + beta
    return g.model(out), [rows], [want]


@case
def layer_normalization_opset_17():
    rows = np.random.normal(size=(ROWS, 3, 8)).astype(np.float32)
    gamma, beta = np.random.normal(size=(2, 8)).astype(np.float32)
    g = Graph(opset=17)
    out = g.add("LayerNormalization", g.input("x", 3, 8), gamma, beta, axis=-1, epsilon=1e-5)
    want = (rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + 1e-5) * gamma + beta
    return g.model(out), [rows], [want]


# ---- quantised networks

def quantised(x, scale, zero, low=0, high=255):
    return np.clip(np.rint(x / np.float32(scale)) + zero, low, high)


@case
def quantise_dequantise():
    """The QDQ form: every tensor goes through int8 or uint8 and back."""
    rows = np.random.uniform(-2, 2, (ROWS, 8)).astype(np.float32)
    w = np.random.randint(-127, 128, (8, 5)).astype(np.int8)
    scale, zero, ws = np.float32(0.02), np.uint8(120), np.float32(0.01)
    g = Graph()
    x = g.add("DequantizeLinear", g.add("QuantizeLinear", g.input("x", 8), scale, zero), scale, zero)
    out = g.add("MatMul", x, g.add("DequantizeLinear", w, ws, np.int8(0)))
    back = (quantised(rows, scale, 120) - 120) * scale
    return g.model(out), [rows], [back @ (w * ws)]


@case
def dynamically_quantised():
    rows = np.random.uniform(-1, 3, (1, 8)).astype(np.float32)  # one scale for the tensor: one row
    w = np.random.randint(-127, 128, (8, 5)).astype(np.int8)
    g = Graph()
    g.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8]))
    q, scale, zero = g.add("DynamicQuantizeLinear", "x", outputs=3)
    product = g.add("Cast", g.add("MatMulInteger", q, w, zero), to=TensorProto.FLOAT)
    out = g.add("Mul", product, g.add("Mul", scale, np.float32(0.01)))
    high, low = max(rows.max(), 0), min(rows.min(), 0)
    s = np.float32((high - low) / np.float32(255))
    z = np.clip(np.rint(-low / s), 0, 255)
    return g.model(out), [rows], [(quantised(rows, s, z) - z) @ w * s * np.float32(0.01)]


@case
def qlinear_matmul():
    rows = np.random.uniform(-2, 2, (ROWS, 8)).astype(np.float32)
    w = np.random.randint(0, 256, (8, 5)).astype(np.uint8)
    sx, sw, sy = np.float32(0.015625), np.float32(0.0078125), np.float32(0.0625)
    g = Graph()
    q = g.add("QuantizeLinear", g.input("x", 8), sx, np.uint8(128))
    y = g.add("QLinearMatMul", q, sx, np.uint8(128), w, sw, np.uint8(127), sy, np.uint8(100))
    exact = ((quantised(rows, sx, 128) - 128) @ (w.astype(np.float64) - 127)) * float(sx) * float(sw)
    return g.model(g.add("DequantizeLinear", y, sy, np.uint8(100))), [rows], [
        (np.clip(np.rint(exact / float(sy)) + 100, 0, 255) - 100) * float(sy)]
