# SPDX-License-Identifier: BSD-3-Clause
# scikit-learn's own models on many random shapes, as its ONNX converter writes them; answers by scikit-learn.
"""Adds to exporters_graphs.CASES. Rows whose classes are as good as tied are left out: float32 sums may break ties."""
import numpy as np
from onnx import TensorProto
from sklearn import datasets, ensemble, linear_model, neural_network, pipeline, preprocessing, svm, tree

from exporters_graphs import CASES, Graph, float_below, forest_attributes

ROWS = 41


def cases(name, times):
    """The builder is called with a generator of its own for each of `times` cases."""
    def add(builder):
        for seed in range(times):
            CASES[f"sklearn {name} {seed}"] = lambda seed=seed: builder(np.random.default_rng([seed, *name.encode()]))
        return builder
    return add


def classes_data(rng, classes=None, holes=0.0):
    """Random rows, labels that need not be 0, 1, 2..., rows to ask for."""
    classes = classes or int(rng.choice([2, 2, 3, 5, 8]))
    features = int(rng.integers(max(3, classes // 2 + 2), 40))
    x, y = datasets.make_classification(
        300 + ROWS, features, n_informative=features - 1, n_redundant=0, n_classes=classes, n_clusters_per_class=1,
        random_state=int(rng.integers(1 << 30)))
    labels = np.sort(rng.permutation(40)[:classes]) if rng.integers(2) else np.arange(classes)
    x = x.astype(np.float32)
    x[rng.random(x.shape) < holes] = np.nan
    return x[:300], labels[y[:300]], x[300:]


def numbers_data(rng, targets=1, holes=0.0):
    features = int(rng.integers(1, 40))
    x = rng.normal(size=(300 + ROWS, features)).astype(np.float32)
    y = np.stack([np.sin(x @ rng.normal(size=features)) + 0.3 * k for k in range(targets)], axis=1)
    x[rng.random(x.shape) < holes] = np.nan
    return x[:300], y[:300, 0] if targets == 1 else y[:300], x[300:]


def clear(rows, scores):
    """Rows whose best two scores (or whose one score and its threshold 0) differ."""
    if scores.ndim == 1:
        return rows[np.abs(scores) > 1e-3]
    best = np.sort(scores, axis=1)
    return rows[best[:, -1] - best[:, -2] > 1e-3]


def classifier_answer(g, label, score, model, rows, scores):
    rows = clear(rows, scores(rows))
    return g.model((label, TensorProto.INT64), score), [rows], [model.predict(rows), scores(rows)]


# ---- forests

def leaf_shares(trees, two_columns):
    def of(one, i):
        shares = one.value[i][0] / one.value[i][0].sum() / len(trees)
        if len(shares) == 2 and not two_columns:  # the second class's share, under number 0
            return [(0, shares[1])]
        return [(c, w) for c, w in enumerate(shares) if w]
    return of


def put_forest(g, x, model, two_columns):
    trees = [e.tree_ for e in getattr(model, "estimators_", [model])]
    return g.ml("TreeEnsembleClassifier", x, outputs=2, post_transform="NONE",
                classlabels_int64s=[int(c) for c in model.classes_],
                **forest_attributes(trees, leaf_shares(trees, two_columns), "class"))


@cases("forest classifier", 18)
def forest_classifier(rng):
    x, y, rows = classes_data(rng)
    kind = (ensemble.RandomForestClassifier, ensemble.ExtraTreesClassifier, tree.DecisionTreeClassifier)[rng.integers(3)]
    options = {"max_depth": None if rng.integers(2) else int(rng.integers(1, 12)), "random_state": 1}
    if kind is not tree.DecisionTreeClassifier:
        options["n_estimators"] = int(rng.integers(1, 40))
    model = kind(**options).fit(x, y)
    g = Graph(ml=int(rng.integers(1, 4)))
    label, score = put_forest(g, g.input("x", x.shape[1]), model, bool(rng.integers(2)))
    score = g.ml("ZipMap", score, classlabels_int64s=[int(c) for c in model.classes_])
    return classifier_answer(g, label, score, model, rows, model.predict_proba)


@cases("forest regressor", 12)
def forest_regressor(rng):
    targets, average = int(rng.integers(1, 4)), bool(rng.integers(2))
    x, y, rows = numbers_data(rng, targets)
    kind = (ensemble.RandomForestRegressor, ensemble.ExtraTreesRegressor)[rng.integers(2)]
    model = kind(int(rng.integers(1, 30)), max_depth=int(rng.integers(1, 14)), random_state=1).fit(x, y)
    trees = [e.tree_ for e in model.estimators_]
    share = 1 if average else 1 / len(trees)
    g = Graph()
    out = g.ml("TreeEnsembleRegressor", g.input("x", x.shape[1]), n_targets=targets, post_transform="NONE",
               aggregate_function="AVERAGE" if average else "SUM", **forest_attributes(
                   trees, lambda one, i: [(k, v * share) for k, v in enumerate(one.value[i][:, 0])], "target"))
    return g.model(out), [rows], [model.predict(rows)]


# ---- boosting

@cases("gradient boosting classifier", 8)
def gradient_boosting_classifier(rng):
    x, y, rows = classes_data(rng)
    model = ensemble.GradientBoostingClassifier(
        n_estimators=int(rng.integers(1, 25)), max_depth=int(rng.integers(1, 6)), random_state=1).fit(x, y)
    columns = model.estimators_.shape[1]
    trees = [e.tree_ for stage in model.estimators_ for e in stage]
    of = {id(t): i % columns for i, t in enumerate(trees)}
    base = model._raw_predict_init(x[:1])[0]  # as skl2onnx does
    g = Graph()
    label, score = g.ml(
        "TreeEnsembleClassifier", g.input("x", x.shape[1]), outputs=2, base_values=[float(b) for b in base],
        post_transform="SOFTMAX" if columns > 1 else "LOGISTIC", classlabels_int64s=[int(c) for c in model.classes_],
        **forest_attributes(trees, lambda one, i: [(of[id(one)], one.value[i][0][0] * model.learning_rate)], "class"))
    return classifier_answer(g, label, score, model, rows, model.predict_proba)


@cases("gradient boosting regressor", 6)
def gradient_boosting_regressor(rng):
    x, y, rows = numbers_data(rng)
    model = ensemble.GradientBoostingRegressor(
        loss=("squared_error", "huber", "absolute_error")[rng.integers(3)], n_estimators=int(rng.integers(1, 40)),
        max_depth=int(rng.integers(1, 7)), random_state=1).fit(x, y)
    g = Graph()
    out = g.ml("TreeEnsembleRegressor", g.input("x", x.shape[1]), n_targets=1, post_transform="NONE",
               base_values=[float(model._raw_predict_init(x[:1])[0, 0])], **forest_attributes(
                   [e.tree_ for e in model.estimators_[:, 0]],
                   lambda one, i: [(0, one.value[i][0][0] * model.learning_rate)], "target"))
    return g.model(out), [rows], [model.predict(rows)]


def histogram_attributes(model, kind):
    """_predictors[stage][class].nodes; a hole in the data goes where training sent it."""
    a = {f"nodes_{n}": [] for n in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
                                    "missing_value_tracks_true")}
    a |= {f"{kind}_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")}
    tree_id = 0
    for stage in model._predictors:
        for k, predictor in enumerate(stage):
            for i, node in enumerate(predictor.nodes):
                leaf = bool(node["is_leaf"])
                for key, value in (
                        ("treeids", tree_id), ("nodeids", i), ("featureids", 0 if leaf else int(node["feature_idx"])),
                        ("values", 0.0 if leaf else float_below(node["num_threshold"])),
                        ("modes", "LEAF" if leaf else "BRANCH_LEQ"),
                        ("truenodeids", 0 if leaf else int(node["left"])),
                        ("falsenodeids", 0 if leaf else int(node["right"])),
                        ("missing_value_tracks_true", 0 if leaf else int(node["missing_go_to_left"]))):
                    a[f"nodes_{key}"].append(value)
                if leaf:
                    for key, value in (("treeids", tree_id), ("nodeids", i), ("ids", k), ("weights", float(node["value"]))):
                        a[f"{kind}_{key}"].append(value)
            tree_id += 1
    return a


@cases("histogram boosting classifier", 6)
def histogram_boosting_classifier(rng):
    x, y, rows = classes_data(rng, holes=0.2 * rng.integers(2))
    model = ensemble.HistGradientBoostingClassifier(max_iter=int(rng.integers(1, 15)), random_state=1).fit(x, y)
    g = Graph()
    label, score = g.ml(
        "TreeEnsembleClassifier", g.input("x", x.shape[1]), outputs=2,
        base_values=[float(b) for b in np.ravel(model._baseline_prediction)],
        post_transform="SOFTMAX" if len(model.classes_) > 2 else "LOGISTIC",
        classlabels_int64s=[int(c) for c in model.classes_], **histogram_attributes(model, "class"))
    return classifier_answer(g, label, score, model, rows, model.predict_proba)


@cases("histogram boosting regressor", 6)
def histogram_boosting_regressor(rng):
    x, y, rows = numbers_data(rng, holes=0.2 * rng.integers(2))
    model = ensemble.HistGradientBoostingRegressor(max_iter=int(rng.integers(1, 40)), random_state=1).fit(x, y)
    g = Graph()
    out = g.ml("TreeEnsembleRegressor", g.input("x", x.shape[1]), n_targets=1,
               base_values=[float(np.ravel(model._baseline_prediction)[0])], **histogram_attributes(model, "target"))
    return g.model(out), [rows], [model.predict(rows)]


# ---- linear models

def put_linear(g, x, model, post):
    w, b = model.coef_, np.ravel(model.intercept_)
    if len(w) == 1:
        w, b = np.vstack([-w, w]), np.hstack([-b, b])
    return g.ml("LinearClassifier", x, outputs=2, coefficients=w.ravel().astype(np.float32).tolist(), multi_class=1,
                intercepts=b.astype(np.float32).tolist(), post_transform=post,
                classlabels_ints=[int(c) for c in model.classes_])


@cases("logistic regression", 8)
def logistic_regression(rng):
    x, y, rows = classes_data(rng)
    multi = ("ovr", "multinomial")[rng.integers(2)]
    model = linear_model.LogisticRegression(multi_class=multi, max_iter=300).fit(x, y)
    g = Graph()
    # A binary multinomial one has one row w for softmax([-w x, w x]).
    label, score = put_linear(g, g.input("x", x.shape[1]), model, "SOFTMAX" if multi == "multinomial" else "LOGISTIC")
    if multi == "ovr":
        score = g.ml("Normalizer", score, norm="L1")
    return classifier_answer(g, label, g.ml("ZipMap", score, classlabels_int64s=[int(c) for c in model.classes_]), model,
                             rows, model.predict_proba)


@cases("linear support vectors", 4)
def linear_svc(rng):
    x, y, rows = classes_data(rng)
    model = svm.LinearSVC(max_iter=200, random_state=1).fit(x, y)
    g = Graph()
    label, score = put_linear(g, g.input("x", x.shape[1]), model, "NONE")
    rows = clear(rows, model.decision_function(rows))
    raw = model.decision_function(rows)
    return g.model((label, TensorProto.INT64), score), [rows], [
        model.predict(rows), np.stack([-raw, raw], axis=1) if raw.ndim == 1 else raw]


@cases("linear regressor", 6)
def linear_regressor(rng):
    targets = int(rng.integers(1, 4))
    x, y, rows = numbers_data(rng, targets)
    model = (linear_model.LinearRegression(), linear_model.Ridge(), linear_model.Lasso(0.01))[rng.integers(3)].fit(x, y)
    g = Graph()
    out = g.ml("LinearRegressor", g.input("x", x.shape[1]), targets=targets,
               coefficients=model.coef_.ravel().astype(np.float32).tolist(),
               intercepts=np.ravel(model.intercept_).astype(np.float32).tolist())
    return g.model(out), [rows], [model.predict(rows)]


# ---- pipelines

def put_scaler(g, x, scaler):
    if isinstance(scaler, preprocessing.Normalizer):
        return g.ml("Normalizer", x, norm=scaler.norm.upper())
    if isinstance(scaler, preprocessing.MinMaxScaler):
        offset, scale = -scaler.min_ / scaler.scale_, scaler.scale_
    elif isinstance(scaler, preprocessing.MaxAbsScaler):
        offset, scale = np.zeros(1), 1 / scaler.scale_
    else:
        offset, scale = getattr(scaler, "mean_", None), 1 / scaler.scale_
        offset = scaler.center_ if offset is None else offset
    return g.ml("Scaler", x, offset=offset.astype(np.float32).tolist(), scale=scale.astype(np.float32).tolist())


def any_scaler(rng):
    return (preprocessing.StandardScaler(), preprocessing.MinMaxScaler(), preprocessing.MaxAbsScaler(),
            preprocessing.RobustScaler(), preprocessing.Normalizer("l1"), preprocessing.Normalizer("l2"))[rng.integers(6)]


def put_network(g, x, model):
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_)):
        x = g.add("Add", g.add("MatMul", x, w.astype(np.float32)), b[None].astype(np.float32))
        if i + 1 < len(model.coefs_):
            x = g.add({"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}[model.activation], x)
    return x


@cases("scaler then logistic regression", 8)
def scaler_then_logistic(rng):
    x, y, rows = classes_data(rng)
    model = pipeline.make_pipeline(any_scaler(rng), linear_model.LogisticRegression(max_iter=300)).fit(x, y)
    g = Graph()
    scaled = put_scaler(g, g.add("Cast", g.input("x", x.shape[1]), to=TensorProto.FLOAT), model[0])
    label, score = put_linear(g, scaled, model[1], "SOFTMAX" if len(model.classes_) > 2 else "LOGISTIC")
    return classifier_answer(g, label, score, model, rows, model.predict_proba)


@cases("scaler then network", 8)
def scaler_then_network(rng):
    x, y, rows = classes_data(rng)
    hidden = tuple(int(v) for v in rng.integers(3, 40, size=rng.integers(1, 4)))
    model = pipeline.make_pipeline(any_scaler(rng), neural_network.MLPClassifier(
        hidden, activation=("relu", "tanh", "logistic")[rng.integers(3)], max_iter=15, random_state=1)).fit(x, y)
    g = Graph()
    score = put_network(g, put_scaler(g, g.input("x", x.shape[1]), model[0]), model[1])
    if model[1].out_activation_ == "softmax":
        score = g.add("Softmax", score, axis=1)
    else:
        one = g.add("Sigmoid", score)
        score = g.add("Concat", g.add("Sub", np.float32(1), one), one, axis=1)
    label = g.ml("ArrayFeatureExtractor", model.classes_.astype(np.int64), g.add("ArgMax", score, axis=1, keepdims=0))
    label = g.add("Reshape", label, np.array([-1], np.int64))
    return classifier_answer(g, label, score, model, rows, model.predict_proba)


@cases("network regressor", 3)
def network_regressor(rng):
    x, y, rows = numbers_data(rng)
    model = neural_network.MLPRegressor((int(rng.integers(2, 30)),), max_iter=15, random_state=1).fit(x, y)
    g = Graph()
    return g.model(put_network(g, g.input("x", x.shape[1]), model)), [rows], [model.predict(rows)]


@cases("chosen columns of two inputs then forest", 4)
def columns_then_forest(rng):
    """FeatureVectorizer, Imputer and ArrayFeatureExtractor (a selector) before trees; string classes as numbers after."""
    x, y, rows = classes_data(rng, classes=3)
    cut = int(rng.integers(1, x.shape[1]))
    chosen = np.sort(rng.permutation(x.shape[1])[:max(2, x.shape[1] // 2)])
    model = ensemble.RandomForestClassifier(12, max_depth=5, random_state=1).fit(x[:, chosen], y)
    fill = rng.normal(size=len(chosen)).astype(np.float32)
    rows = rows.copy()
    rows[rng.random(rows.shape) < 0.2] = np.nan
    whole = np.where(np.isnan(rows[:, chosen]), fill, rows[:, chosen])
    keep = np.isin(np.arange(len(rows)), np.flatnonzero(
        np.diff(np.sort(model.predict_proba(whole), axis=1), axis=1)[:, -1] > 1e-3))
    rows, whole = rows[keep], whole[keep]
    g = Graph()
    both = g.ml("FeatureVectorizer", g.input("a", cut), g.input("b", x.shape[1] - cut), inputdimensions=[cut, x.shape[1] - cut])
    filled = g.ml("Imputer", g.ml("ArrayFeatureExtractor", both, chosen.astype(np.int64)),
                  imputed_value_floats=fill.tolist(), replaced_value_float=float("nan"))
    label, score = put_forest(g, filled, model, True)
    code = g.ml("LabelEncoder", label, keys_int64s=[int(c) for c in model.classes_][:2], values_floats=[0.5, -2.5],
                default_float=7.0)
    want = model.predict(whole)
    return g.model((label, TensorProto.INT64), score, code), [rows[:, :cut], rows[:, cut:]], [
        want, model.predict_proba(whole), np.select([want == c for c in model.classes_[:2]], [0.5, -2.5], 7.0)]
