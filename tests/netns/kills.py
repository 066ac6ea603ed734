#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The two helpers of test_kills.sh.

  kills.py order FILE NAME SECONDS    the process that obeys FILE (dataplane/base/failpoint.h) dies at its next pass of NAME;
                                      1 when it has not within SECONDS
  kills.py watch INTERFACE OUT.json   until TERM: write down (key id, epoch, lane, counter) of every datagram the dataplane sends
                                      and look for one that was there already; what was counted goes to OUT
"""
import json
import mmap
import signal
import socket
import struct
import sys
import time

ORDERS = struct.Struct("<48sq48sQ16x")  # kill, passes, skip, killed
ETHERNET, IPV4, UDP = 14, 20, 8
HEADER = struct.Struct("<BBHIQ")  # type, flags, lane, key id, counter: abi/wire.h
REPLY = 0x12


def order(path, name, seconds):
    with open(path, "r+b") as f:
        m = mmap.mmap(f.fileno(), ORDERS.size)
    killed = ORDERS.unpack_from(m)[3]
    struct.pack_into("<48s", m, 0, name.encode())
    struct.pack_into("<q", m, 48, 1)
    end = time.monotonic() + seconds
    while ORDERS.unpack_from(m)[3] == killed:
        if time.monotonic() > end:
            struct.pack_into("<q", m, 48, 0)
            return 1
        time.sleep(0.005)
    return 0


def watch(interface, out):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    seen, repeated, requests = set(), [], 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 25)
        s.bind((interface, 0))
        s.settimeout(0.1)
        while not stop:
            try:
                frame, address = s.recvfrom(2048)
            except TimeoutError:
                continue
            if len(frame) < ETHERNET + IPV4 + UDP + HEADER.size or frame[12:14] != b"\x08\x00" or frame[23] != 17:
                continue
            kind, flags, lane, key_id, counter = HEADER.unpack_from(frame, ETHERNET + IPV4 + UDP)
            if address[2] == socket.PACKET_OUTGOING or kind != REPLY:
                requests += 1
                continue
            nonce = (key_id, flags, lane, counter)
            if nonce in seen:
                repeated.append(nonce)
            seen.add(nonce)
        missed = struct.unpack("II", s.getsockopt(263, 6, 8))[1]  # SOL_PACKET, PACKET_STATISTICS
    with open(out, "w") as f:
        json.dump({"nonces": len(seen), "repeated": len(repeated), "first": repeated[:3], "requests": requests, "missed": missed,
                   "keys": len({n[0] for n in seen}), "epochs": len({(n[0], n[1]) for n in seen})}, f)
    return 0


if sys.argv[1] == "order":
    sys.exit(order(sys.argv[2], sys.argv[3], float(sys.argv[4])))
sys.exit(watch(*sys.argv[2:4]))
