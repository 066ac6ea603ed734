#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What `make soak` watches: counters and memory once a second, and the balance at the end.

  soak.py sample CONTROL_SOCKET CONTROL_PID SAMPLES.jsonl   until it is ended
  soak.py judge SAMPLES.jsonl REPORT.json RUN.json OUT.json prints one sentence a line; 1 when one does not hold
"""
import json
import socket
import sys
import time

SLACK_KIB, SLACK_SHARE = 2048, 0.01  # what a heap may breathe


def ask(path, what):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(json.dumps({"id": 1, "cmd": what, "args": {}}).encode() + b"\n")
        text = b""
        while not text.endswith(b"\n"):
            more = s.recv(1 << 16)
            if not more:
                raise OSError("control hung up")
            text += more
    return json.loads(text)["result"]


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next((int(line.split()[1]) for line in f if line.startswith("VmRSS:")), 0)


def sample(path, control_pid, out):
    dataplane = ask(path, "status")["dataplane"]["pid"]
    with open(out, "w") as f:
        while True:
            row = {"s": time.monotonic(), "counters": ask(path, "top")["counters"],
                   "control_kib": rss_kib(control_pid), "dataplane_kib": rss_kib(dataplane)}
            f.write(json.dumps(row) + "\n")
            f.flush()
            time.sleep(1)


def flat(values):
    """Highest of the last third against the highest of the middle third: the first one warms up."""
    third = max(1, len(values) // 3)
    middle, last = max(values[third:2 * third]), max(values[-third:])
    return last <= middle + SLACK_KIB + middle * SLACK_SHARE, middle, last


def judge(samples, report, run, out):
    with open(samples) as f:
        rows = [json.loads(line) for line in f]
    with open(report) as f:
        load = json.load(f)
    with open(run) as f:
        about = json.load(f)
    first, last = rows[0]["counters"], rows[-1]["counters"]
    delta = {name: last[name] - first[name] for name in last}
    drops = {name: n for name, n in delta.items() if name.startswith("drop_") and n}
    loss = sum(n for name, n in drops.items() if name not in ("drop_neighbour", "drop_reply_tx"))
    balance = (delta["rx_packets"] + delta["gateway_requests"] - delta["requests_completed"] - delta["segments_held"]
               - delta["neighbour"] - delta["handed_over"]
               - sum(n for name, n in drops.items() if name != "drop_reply_tx"))
    replies = {name: n for name, n in delta.items() if name.startswith("reply_") and n}
    seconds = rows[-1]["s"] - rows[0]["s"]
    sent_s = load["sent"] / load["seconds"]
    wanted_steps = min(load["sent"] // about["epoch_datagrams"], int(load["seconds"] / 5))  # no two within 4 s
    memory = {who: flat([r[who] for r in rows]) for who in ("control_kib", "dataplane_kib")}
    sentences = [
        (load["unanswered"] == 0 and load["status"]["result"] == load["sent"],
         f"{load['sent']} requests sent, {load['status']['result']} results, {load['unanswered']} lost"),
        (about["max_after_req_s"] > 0 and sent_s >= 0.78 * min(about["max_req_s"], about["max_after_req_s"]),
         f"{sent_s:.0f} requests a second were sent, {about['rate']} meant: {100 * sent_s / about['max_req_s']:.0f} % of the maximum before, "
         f"{100 * sent_s / max(about['max_after_req_s'], 1):.0f} % of the one after"),
        (loss == 0, f"datagrams dropped for a fault of theirs: {loss} {drops}"),
        (drops.get("drop_reply_tx", 0) == 0,
         f"replies that found the client's queue full: {drops.get('drop_reply_tx', 0)}"),
        (balance == 0, f"datagrams not accounted for: {balance}"),
        (set(replies) <= {"reply_result"}, f"replies {replies}"),
        (delta["limit_corrupt"] == 0, f"limiter slots found corrupt: {delta['limit_corrupt']}"),
        (load["epochs"] >= max(1, wanted_steps), f"key epochs: {load['epochs']} steps, one every "
         f"{about['epoch_datagrams']} requests makes at least {wanted_steps}"),
        (about["limit_changes"] >= 0.9 * load["seconds"], f"limit changes: {about['limit_changes']} in {load['seconds']:.0f} s"),
        (delta["model_swaps"] >= 0.9 * load["seconds"], f"model activations: {delta['model_swaps']} in {load['seconds']:.0f} s"),
    ] + [(ok, f"{who[:-4]} memory: {middle} KiB in the middle, {end} KiB at the end")
         for who, (ok, middle, end) in memory.items()]
    for ok, text in sentences:
        print(f"{'ok    ' if ok else 'not ok'}  {text}")
    with open(out, "w") as f:
        json.dump(about | {"seconds": seconds, "sent": load["sent"], "results": load["status"]["result"],
                           "unanswered": load["unanswered"], "req_s": load["req_s"], "p50_us": load["p50_us"],
                           "p99_us": load["p99_us"], "retries": load["retries"], "late": load["late"],
                           "queue_full": load["queue_full"], "held_back": load["held_back"], "epochs": load["epochs"],
                           "model_swaps": delta["model_swaps"], "replies": replies, "drops": drops, "balance": balance,
                           "memory_kib": {who: [m, e] for who, (_, m, e) in memory.items()},
                           "ok": all(ok for ok, _ in sentences)}, f, indent=1)
    return 0 if all(ok for ok, _ in sentences) else 1


if sys.argv[1] == "sample":
    try:
        sample(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    except (KeyboardInterrupt, OSError):
        sys.exit(0)
sys.exit(judge(*sys.argv[2:6]))
