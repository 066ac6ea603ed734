#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Session keys, looked for wherever a core dump, a log or a curious user would find them.

  secrets.py keys DATAPLANE_PID              prints the raw keys of all live sessions, hex, one a line
  secrets.py dump KEYS PID...                counts them in what a core dump of each PID would hold
  secrets.py all KEYS PID...                 counts them in all memory of each PID, dumped or not
  secrets.py text KEYS FILE...               counts them in files: raw, hex and base64

Reads the session table through the dataplane's descriptor (abi/session.h), memory through /proc/PID/mem.
"""
import base64
import os
import re
import struct
import sys

SLOTS_AT, LIVE = 4096, 1  # SESSION_TABLE_BYTES, SESSION_LIVE


def layout():
    """Offsets from the header itself, so that this follows it: compiled by the test beforehand."""
    return dict((name, int(at)) for name, at in (pair.split("=") for pair in os.environ["SESSION_LAYOUT"].split()))


def table(pid):
    for fd in os.listdir(f"/proc/{pid}/fd"):
        if "millrace-sessions" in os.readlink(f"/proc/{pid}/fd/{fd}"):
            with open(f"/proc/{pid}/fd/{fd}", "rb") as f:
                return f.read()
    sys.exit(f"process {pid} holds no session table")


def live_keys(pid):
    at, data = layout(), table(pid)
    capacity = struct.unpack_from("<I", data, at["capacity"])[0]
    for i in range(capacity):
        slot = data[SLOTS_AT + i * at["slot"]:SLOTS_AT + (i + 1) * at["slot"]]
        if struct.unpack_from("<I", slot, at["state"])[0] != LIVE:
            continue
        for key in range(at["epochs"]):
            begin = at["keys"] + key * at["key_stride"]
            for offset in (at["c2s_key"], at["s2c_key"]):
                yield slot[begin + offset:begin + offset + 32]
        yield slot[at["secrets"]:at["secrets"] + 32]
        yield slot[at["secrets"] + 32:at["secrets"] + 64]


def mappings(pid, dumped_only):
    """Address ranges of one process; what MADV_DONTDUMP or the kernel keeps out of a dump has dd or io set."""
    here = None
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) .*?(\S*)$", line)
            if head:
                here = (int(head[1], 16), int(head[2], 16), head[3], head[4])
            elif line.startswith("VmFlags:"):
                flags = line.split()[1:]
                if "io" in flags or here[2][0] != "r" or here[3] in ("[vvar]", "[vsyscall]"):
                    continue
                if not (dumped_only and "dd" in flags):
                    yield here


def in_memory(pid, keys, dumped_only):
    found = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for begin, end, _, name in mappings(pid, dumped_only):
            at = begin
            while at < end:
                n = min(end - at, 16 << 20)
                try:
                    mem.seek(at)
                    block = mem.read(n)
                except OSError:
                    break  # a hole, or a device
                for key in keys:
                    hits = block.count(key)
                    if hits:
                        found += hits
                        print(f"{pid}: a key in {name or 'anonymous memory'} at {at:#x}", file=sys.stderr)
                at += max(n - 32, 1) if at + n < end else n
    return found


def in_text(path, keys):
    with open(path, "rb") as f:
        data = f.read()
    forms = [form for k in keys for form in (k, k.hex().encode(), k.hex().upper().encode(), base64.b64encode(k)[:-2])]
    return sum(data.count(form) for form in forms)


def main():
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "keys":
        print("\n".join(sorted({k.hex() for k in live_keys(rest[0]) if any(k)})))
        return
    with open(rest[0]) as f:
        keys = [bytes.fromhex(line) for line in f.read().split()]
    if what == "text":
        print(sum(in_text(path, keys) for path in rest[1:] if os.path.isfile(path)))
    else:
        print(sum(in_memory(pid, keys, what == "dump") for pid in rest[1:]))


main()
