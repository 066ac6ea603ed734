#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Generate subscribers by a stated process, train the churn model, write model.onnx, heldout_*.npy, expected.npy.
"""Deterministic: fixed seeds, one thread. Run with Debian's /usr/bin/python3 in this folder."""
import os
import sys

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

SEED = 31
ROWS, HELD = 24000, 2000
HERE = os.path.dirname(os.path.abspath(__file__))
FEATURES = (
    "tenure_months", "monthly_fee", "fee_change_pct", "months_to_renewal", "annual_contract",
    "seats", "active_seats", "logins_week", "logins_trend", "days_since_login",
    "requests_day", "requests_trend", "error_rate_pct", "tickets_90d", "tickets_open",
    "worst_reply_hours", "failed_payments", "card_expires_days", "discount_pct", "referred",
)


def subscribers(rng, n):
    """The process: a hidden health of each account drives what can be seen of it, and so does its size."""
    health = rng.normal(size=n)
    size = rng.lognormal(1.2, 0.9, n)
    annual = rng.random(n) < 0.2 + 0.3 * (size > 5)
    tenure = rng.gamma(2.0, 9.0, n)
    seats = np.ceil(size)
    active = rng.binomial(seats.astype(int), 1 / (1 + np.exp(-1.0 - health)))
    logins = rng.poisson(active * np.exp(0.9 + 0.35 * health))
    tickets = rng.poisson(np.exp(-0.4 - 0.4 * health))
    columns = (
        tenure, 20 + 12 * seats * rng.uniform(0.7, 1.2, n),
        np.where(rng.random(n) < 0.25, rng.uniform(3, 30, n), 0),
        np.where(annual, rng.integers(0, 12, n), 0), annual,
        seats, active, logins, rng.normal(0.15 * health, 0.35),
        rng.exponential(np.exp(1.2 - 0.7 * health)),
        rng.lognormal(4 + 0.5 * health, 1.0), rng.normal(0.2 * health, 0.4),
        rng.gamma(1.5, np.exp(-0.8 - 0.3 * health)), tickets, rng.binomial(tickets, 0.3),
        np.where(tickets > 0, rng.exponential(18, n), 0),
        rng.poisson(0.12, n), rng.uniform(0, 720, n),
        np.where(rng.random(n) < 0.2, rng.choice([10, 20, 30], n), 0), rng.random(n) < 0.15,
    )
    return np.stack([np.asarray(c, dtype=np.float64) for c in columns], axis=1)


def hazard(x):
    """Probability of leaving within 30 days. Thresholds and products: no straight line finds it whole."""
    f = dict(zip(FEATURES, x.T))
    idle = 1 - f["active_seats"] / f["seats"]
    z = (-3.1 + 2.6 * idle - 0.9 * np.log1p(f["tenure_months"] / 6)
         + 0.55 * np.log1p(f["days_since_login"])
         - 1.4 * f["logins_trend"] - 1.1 * f["requests_trend"]
         + 0.10 * f["fee_change_pct"] * (1 + (f["seats"] < 3))
         + 1.5 * (f["failed_payments"] > 0) * (f["card_expires_days"] < 120)
         + 0.9 * f["tickets_open"] * (f["worst_reply_hours"] > 24)
         + 0.35 * np.maximum(f["error_rate_pct"] - 1.0, 0)
         - 2.2 * f["annual_contract"] * (f["months_to_renewal"] > 1)
         + 0.03 * f["discount_pct"] * (f["tenure_months"] < 9) - 0.5 * f["referred"])
    return 1 / (1 + np.exp(-1.3 * z))


def train(net, x, y):
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=2e-2)
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(25):
        order = torch.randperm(len(x), generator=generator)
        for at in range(0, len(x), 128):
            rows = order[at:at + 128]
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(net(x[rows]), y[rows]).backward()
            optimizer.step()


def fold_standardisation(net, mean, std):
    """W((x - m) / s) + b = (W / s) x + (b - (W / s) m), computed in float64: raw features go in."""
    with torch.no_grad():
        weight = net[0].weight.double() / torch.from_numpy(std)
        bias = net[0].bias.double() - weight @ torch.from_numpy(mean)
        net[0].weight.copy_(weight.float())
        net[0].bias.copy_(bias.float())


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    x = subscribers(rng, ROWS).astype(np.float32)
    truth = hazard(x.astype(np.float64))
    y = (rng.random(ROWS) < truth).astype(np.float32)
    seen, held = slice(0, ROWS - HELD), slice(ROWS - HELD, ROWS)
    mean, std = x[seen].mean(axis=0, dtype=np.float64), x[seen].std(axis=0, dtype=np.float64)
    net = torch.nn.Sequential(
        torch.nn.Linear(len(FEATURES), 64), torch.nn.ReLU(),
        torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    train(net, torch.from_numpy(((x[seen] - mean) / std).astype(np.float32)),
          torch.from_numpy(y[seen, None]))
    fold_standardisation(net, mean, std)
    served = torch.nn.Sequential(*net, torch.nn.Sigmoid()).eval()
    rows = x[held]
    with torch.no_grad():
        expected = served(torch.from_numpy(rows)).numpy()
    torch.onnx.export(
        served, torch.zeros(1, len(FEATURES)), os.path.join(HERE, "model.onnx"), opset_version=13,
        input_names=["account"], output_names=["probability"],
        dynamic_axes={"account": {0: "batch"}, "probability": {0: "batch"}})
    np.save(os.path.join(HERE, "heldout_x.npy"), rows)
    np.save(os.path.join(HERE, "heldout_y.npy"), y[held])
    np.save(os.path.join(HERE, "expected.npy"), expected)
    accuracy = float(((expected[:, 0] > 0.5) == (y[held] > 0.5)).mean())
    auc, best = roc_auc_score(y[held], expected[:, 0]), roc_auc_score(y[held], truth[held])
    top = np.argsort(-expected[:, 0])[:HELD // 10]
    print(f"held-out accuracy {accuracy:.4f}, ROC AUC {auc:.4f} (the process itself {best:.4f}), "
          f"left {y[held].mean():.4f}, of the riskiest tenth {y[held][top].mean():.4f}")
    return 0 if auc >= best - 0.02 else 1


if __name__ == "__main__":
    sys.exit(main())
