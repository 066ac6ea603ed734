#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draw the points of perf/flood.sh (JSON lines): flood-KIND.svg a transport, load.svg."""
import json
import os
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402 (after the backend is chosen)

UNITS = 1e3  # rates are shown in thousands a second


def flood(points, transport, path):
    """Goodput and p99 against what the flood really sent; x = 0 is the quiet run before each kind's."""
    figure, (good, tail) = plt.subplots(2, 1, sharex=True, figsize=(7, 6))
    curves, quiet = {}, None
    for p in points:
        if p["kind"] == "none":
            quiet = p
        else:
            curves.setdefault(p["kind"], [quiet] if quiet else []).append(p)
    for kind, line in curves.items():
        line.sort(key=lambda p: p["flood_rate"])
        x = [p["flood_rate"] / UNITS for p in line]
        good.plot(x, [p["goodput_pct"] for p in line], marker="o", label=kind)
        tail.plot(x, [p["p99_us"] for p in line], marker="o", label=kind)
        if line[-1].get("victim_goodput_pct") is not None:
            good.plot(x[1:], [p["victim_goodput_pct"] for p in line[1:]], marker="x", linestyle="--",
                      label=f"{kind}: the one named")
    good.axhline(95, color="grey", linewidth=0.5)
    good.set_ylabel("goodput, % of offered")
    good.set_ylim(0, 105)
    good.legend(fontsize="small")
    tail.set_ylabel("p99, µs")
    tail.set_yscale("log")
    tail.set_xlabel("flood, thousand packets a second")
    good.set_title(f"paying traffic beside a flood, {transport}")
    figure.tight_layout()
    figure.savefig(path)


def load(points, path):
    """Latency percentiles against load."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for name in ("p50_us", "p99_us", "p999_us"):
        axes.plot([p["percent"] for p in points], [p[name] for p in points], marker="o", label=name[:-3])
    axes.set_yscale("log")
    axes.set_xlabel("offered, % of the highest closed-loop rate (open loop, Poisson)")
    axes.set_ylabel("latency, µs")
    axes.set_title("fraud over memif, one worker core")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        points = [json.loads(line) for line in f]
    for curve in sorted({p["curve"] for p in points}):
        mine = [p for p in points if p["curve"] == curve]
        if curve == "load":
            load(mine, os.path.join(sys.argv[2], "load.svg"))
        elif any(p["kind"] != "none" for p in mine):
            flood(mine, curve, os.path.join(sys.argv[2], f"flood-{curve}.svg"))


if __name__ == "__main__":
    main()
