#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Train the search ranker on the documentation inside Debian's python3-numpy, -scipy and -sklearn; write the zoo's files.
"""Deterministic for given package versions: fixed split and seeds, one thread, sources read but never imported.

A query is the first line of a function's or class's documentation, its document is the rest: finding the page a
summary belongs to. Candidates come from BM25; the model scores a (query, candidate) pair from lexical agreement
and from the product of both texts' dense vectors (latent semantic analysis).
"""
import ast
import glob
import os
import re
import sys

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize

SEED = 41
LEXICAL = 10  # features behind the products
DENSE, PRODUCTS, CANDIDATES, HELD = 160, 32, 20, 240
PACKAGES = "/usr/lib/python3/dist-packages"
HERE = os.path.dirname(os.path.abspath(__file__))


def words_of(name):
    return " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name))


def pages():
    """(summary, name, body) of every documented public function and class, each summary once."""
    found = {}
    for package in ("numpy", "scipy", "sklearn"):
        for path in sorted(glob.glob(f"{PACKAGES}/{package}/**/*.py", recursive=True)):
            if "/tests/" in path or "/externals/" in path:
                continue
            with open(path, encoding="utf-8") as source:
                tree = ast.parse(source.read())
            for node in ast.walk(tree):
                if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name[0] == "_":
                    continue
                summary, _, body = (ast.get_docstring(node) or "").partition("\n\n")
                summary = " ".join(summary.split())
                if 4 <= len(summary.split()) <= 30 and len(body.split()) >= 40:
                    found.setdefault(summary, (summary, words_of(node.name), body))
    return list(found.values())


class Index:
    """BM25, TF-IDF and dense vectors of the documents; the vocabulary and both models see documents only."""

    def __init__(self, texts, names):
        self.words = CountVectorizer(
            stop_words="english", min_df=2, max_df=0.3, token_pattern=r"[A-Za-z]{2,}")
        self.counts = self.words.fit_transform(texts).astype(np.float64)
        self.names = (self.words.transform(names) > 0).astype(np.float64)
        self.tfidf = TfidfTransformer(sublinear_tf=True)
        self.weighted = self.tfidf.fit_transform(self.counts)
        self.svd = TruncatedSVD(DENSE, random_state=SEED)
        self.dense = normalize(self.svd.fit_transform(self.weighted))
        self.length = np.asarray(self.counts.sum(axis=1)).ravel()
        self.idf = self.tfidf.idf_
        saturated = self.counts.tocsr(copy=True)
        row = np.repeat(np.arange(len(self.length)), np.diff(saturated.indptr))
        norm = 1.2 * (0.25 + 0.75 * self.length / self.length.mean())
        saturated.data = saturated.data * 2.2 / (saturated.data + norm[row])
        self.bm25 = saturated.multiply(self.idf).tocsr()

    def features(self, queries):
        """For every query: its candidates (best first by BM25) and their rows of features."""
        counts = self.words.transform(queries)
        asked = (counts > 0).astype(np.float64)
        weighted = self.tfidf.transform(counts)
        dense = normalize(self.svd.transform(weighted))
        bm25 = np.asarray((asked @ self.bm25.T).todense())
        order = np.argsort(-bm25, axis=1, kind="stable")[:, :CANDIDATES]
        rows = np.empty((len(queries), CANDIDATES, PRODUCTS + LEXICAL), np.float32)
        for i, near in enumerate(order):
            present = (self.counts[near] > 0).multiply(asked[i]).tocsr()
            n = max(asked[i].sum(), 1)
            idf = max((asked[i].multiply(self.idf)).sum(), 1e-9)
            cosine = np.asarray((self.weighted[near] @ weighted[i].T).todense()).ravel()
            named = np.asarray(self.names[near].multiply(asked[i]).multiply(self.idf).sum(axis=1)).ravel()
            rows[i, :, :PRODUCTS] = (self.dense[near] * dense[i])[:, :PRODUCTS]
            rows[i, :, PRODUCTS:] = np.stack([
                cosine, bm25[i, near] / idf, np.asarray(present.sum(axis=1)).ravel() / n,
                np.asarray(present.multiply(self.idf).sum(axis=1)).ravel() / idf, named / idf,
                self.dense[near] @ dense[i], np.log(self.length[near]), np.full(len(near), np.log(n + 1)),
                bm25[i, near] / max(bm25[i, near[0]], 1e-9), 1 / (1 + np.arange(len(near))),
            ], axis=1)
        return order, rows


def train(net, x, y):
    """Listwise: the right page against the others of its query; then one scale and shift for probabilities."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=5e-2)
    generator = torch.Generator().manual_seed(SEED)
    usable = torch.from_numpy(np.flatnonzero(y.sum(axis=1) > 0))
    right = torch.from_numpy(y.argmax(axis=1))
    for _ in range(8):
        order = usable[torch.randperm(len(usable), generator=generator)]
        for at in range(0, len(order), 32):
            rows = order[at:at + 32]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[rows])[:, :, 0], right[rows]).backward()
            optimizer.step()
    calibrate(net, x, torch.from_numpy(y.astype(np.float32)))


def calibrate(net, x, y):
    with torch.no_grad():
        score = net(x)[:, :, 0]
    scale, shift = torch.ones((), requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, shift], max_iter=50)

    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(score * scale + shift, y)
        value.backward()
        return value
    optimizer.step(loss)
    with torch.no_grad():
        net[-1].weight *= scale
        net[-1].bias.mul_(scale).add_(shift)


def fold_standardisation(net, mean, std):
    """W((x - m) / s) + b = (W / s) x + (b - (W / s) m), computed in float64: raw features go in."""
    with torch.no_grad():
        weight = net[0].weight.double() / torch.from_numpy(std)
        bias = net[0].bias.double() - weight @ torch.from_numpy(mean)
        net[0].weight.copy_(weight.float())
        net[0].bias.copy_(bias.float())


def reciprocal_rank(score, y):
    """Mean of 1 / rank of the right page among its query's candidates; 0 where BM25 did not bring it."""
    place = (score > np.where(y, score, np.inf).min(axis=1, keepdims=True)).sum(axis=1)
    return float(np.where(y.any(axis=1), 1 / (1 + place), 0).mean())


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    corpus = pages()
    queries = [page[0] for page in corpus]
    index = Index([f"{name} {body}" for _, name, body in corpus], [page[1] for page in corpus])
    order, x = index.features(queries)
    y = order == np.arange(len(corpus))[:, None]
    shuffled = np.random.default_rng(SEED).permutation(len(corpus))
    held, seen = shuffled[:HELD], shuffled[HELD:]
    flat = x[seen].reshape(-1, x.shape[2]).astype(np.float64)
    mean, std = flat.mean(axis=0), flat.std(axis=0) + 1e-9
    net = torch.nn.Sequential(
        torch.nn.Linear(x.shape[2], 64), torch.nn.ReLU(),
        torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    train(net, torch.from_numpy(((x[seen] - mean) / std).astype(np.float32)), y[seen])
    fold_standardisation(net, mean, std)
    served = torch.nn.Sequential(*net, torch.nn.Sigmoid()).eval()
    rows, labels = x[held].reshape(-1, x.shape[2]), y[held].reshape(-1)
    with torch.no_grad():
        expected = served(torch.from_numpy(rows)).numpy()
    torch.onnx.export(
        served, torch.zeros(1, x.shape[2]), os.path.join(HERE, "model.onnx"), opset_version=13,
        input_names=["pair"], output_names=["relevance"],
        dynamic_axes={"pair": {0: "batch"}, "relevance": {0: "batch"}})
    np.save(os.path.join(HERE, "heldout_x.npy"), rows)
    np.save(os.path.join(HERE, "heldout_y.npy"), labels.astype(np.float32))
    np.save(os.path.join(HERE, "expected.npy"), expected)
    accuracy = float(((expected[:, 0] > 0.5) == labels).mean())
    ours = reciprocal_rank(expected.reshape(HELD, CANDIDATES), y[held])
    lexical = reciprocal_rank(x[held][:, :, PRODUCTS + 1], y[held])
    first = reciprocal_rank(x[held][:, :, PRODUCTS], y[held])
    print(f"{len(corpus)} pages; held-out accuracy {accuracy:.4f} over {len(labels)} pairs; MRR {ours:.4f} "
          f"(BM25 {lexical:.4f}, TF-IDF cosine {first:.4f}, at most {y[held].any(axis=1).mean():.4f})")
    return 0 if ours > max(lexical, first) else 1


if __name__ == "__main__":
    sys.exit(main())
