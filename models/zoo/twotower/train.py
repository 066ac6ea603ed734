#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Generate listeners by a stated process, train a two-tower recommender, write the served half and the zoo's files.
"""Deterministic: fixed seeds, one thread. Run with Debian's /usr/bin/python3 in this folder.

The item tower (embedding and genre) runs once, here: its vectors are a constant of the served graph. The user
tower takes the last eight items, so that new users need no training. Eighteen items come out: the best ten that the
history does not hold are among them, whatever it holds.
"""
import os
import sys

import numpy as np
import torch

SEED = 53
USERS, ITEMS, GENRES, HISTORY, TOP = 6000, 1000, 20, 8, 10
TASTE, WIDTH, HELD = 6, 32, 1000
HERE = os.path.dirname(os.path.abspath(__file__))


def listening(rng):
    """Items have a genre, a place near it in a space of tastes, and a popularity; users like one or two places."""
    genre = rng.integers(0, GENRES, ITEMS)
    centre = rng.normal(size=(GENRES, TASTE))
    place = centre[genre] + 0.5 * rng.normal(size=(ITEMS, TASTE))
    popularity = 0.8 * rng.normal(size=ITEMS)
    heard = np.empty((USERS, HISTORY + 1), np.int64)
    for user in range(USERS):
        likes = centre[rng.choice(GENRES, 1 + rng.integers(2), replace=False)]
        likes = likes + 0.4 * rng.normal(size=likes.shape)
        distance = ((place[:, None] - likes[None]) ** 2).sum(axis=2).min(axis=1)
        # Gumbel noise: the largest sums are a draw without replacement from softmax(popularity - distance).
        heard[user] = np.argsort(-(popularity - 1.2 * distance + rng.gumbel(size=ITEMS)))[:HISTORY + 1]
        rng.shuffle(heard[user])
    return heard, genre


class TwoTower(torch.nn.Module):
    def __init__(self, genre):
        super().__init__()
        self.genre = torch.from_numpy(genre)
        self.item = torch.nn.Embedding(ITEMS, WIDTH)
        self.of_genre = torch.nn.Embedding(GENRES, WIDTH)
        self.user = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, 64), torch.nn.ReLU(), torch.nn.Linear(64, WIDTH))
        for table in (self.item, self.of_genre):
            torch.nn.init.normal_(table.weight, std=0.2)

    def items(self):
        return self.item.weight + self.of_genre(self.genre)

    def forward(self, history):
        mean = torch.nn.functional.embedding(history, self.items()).mean(dim=1)
        return mean + self.user(mean)


class Served(torch.nn.Module):
    """User tower, all items' scores, the best of them."""

    def __init__(self, model):
        super().__init__()
        self.register_buffer("table", model.items().detach().clone())
        self.register_buffer("matrix", self.table.t().contiguous())
        self.user = model.user

    def forward(self, history):
        mean = torch.nn.functional.embedding(history, self.table).mean(dim=1)
        scores = torch.matmul(mean + self.user(mean), self.matrix)
        return torch.topk(scores, TOP + HISTORY, dim=1)


def train(model, heard):
    """Softmax over all items: each item of a row is once what the others must find."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(25):
        order = torch.randperm(len(heard), generator=generator)
        for at in range(0, len(heard), 128):
            turn = int(torch.randint(0, HISTORY + 1, (), generator=generator))
            rows = torch.roll(heard[order[at:at + 128]], turn, dims=1)
            optimizer.zero_grad()
            scores = model(rows[:, :HISTORY]) @ model.items().t()
            seen = torch.zeros_like(scores).scatter_(1, rows[:, :HISTORY], -1e4)
            torch.nn.functional.cross_entropy(scores + seen, rows[:, HISTORY]).backward()
            optimizer.step()


def recall(best, history, target):
    """Share of users whose next item is among the first ten that their history does not hold."""
    hits = 0
    for row, known, wanted in zip(best, history, target):
        fresh = [item for item in row if item not in known][:TOP]
        hits += wanted in fresh
    return hits / len(target)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    heard, genre = listening(np.random.default_rng(SEED))
    seen, held = heard[:-HELD], heard[-HELD:]
    model = TwoTower(genre)
    train(model, torch.from_numpy(seen))
    served = Served(model).eval()
    history, target = held[:, :HISTORY], held[:, HISTORY]
    with torch.no_grad():
        scores, items = served(torch.from_numpy(history))
    torch.onnx.export(
        served, torch.zeros(1, HISTORY, dtype=torch.int64), os.path.join(HERE, "model.onnx"),
        opset_version=13, input_names=["history"], output_names=["scores", "items"],
        dynamic_axes={n: {0: "batch"} for n in ("history", "scores", "items")})
    np.save(os.path.join(HERE, "heldout_x.npy"), history)
    np.save(os.path.join(HERE, "heldout_y.npy"), target)
    np.save(os.path.join(HERE, "expected.npy"), scores.numpy())
    np.save(os.path.join(HERE, "expected_items.npy"), items.numpy())
    ours = recall(items.numpy(), history, target)
    counts = np.bincount(seen.ravel(), minlength=ITEMS)
    popular = np.tile(np.argsort(-counts, kind="stable")[:TOP + HISTORY], (HELD, 1))
    print(f"held-out recall@{TOP} {ours:.4f} over {HELD} users "
          f"(most popular items {recall(popular, history, target):.4f}, chance {TOP / ITEMS:.4f})")
    return 0 if ours > 2 * recall(popular, history, target) else 1


if __name__ == "__main__":
    sys.exit(main())
