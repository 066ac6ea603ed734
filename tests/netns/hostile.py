#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A hostile client of our own making: enrols like anybody, then sends what no client sends, as raw frames.

    hostile.py KIND --url HOST:PORT --interface DEV      API key in MILLRACE_API_KEY

Written against dataplane/abi/wire.h and control/API.md alone, with Python's own cryptography. Every KIND is
framed by two honest requests, which must be answered. Prints one JSON object: packets sent in between, and
frames that came back for them (there should be none).
"""
import argparse
import base64
import hashlib
import hmac
import http.client
import json
import os
import random
import socket
import ssl
import struct
import sys
import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TYPE_REQUEST, TYPE_REPLY, RESULT, F32 = 0x11, 0x12, 0, 1
ETH, IP, UDP, WIRE, REQUEST, TAG = 14, 20, 8, 16, 24, 16
QUIET_S = 0.3  # so long after the last packet an answer would still count


class Session:
    """One enrolled session and its keys (HKDF-Expand with one block: RFC 5869)."""

    def __init__(self, url, key):
        host, port = url.rsplit(":", 1)
        trust = ssl._create_unverified_context()  # the pin is tested elsewhere
        self.https = http.client.HTTPSConnection(host, int(port), context=trust, timeout=5)
        self.head = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
        self.https.request("POST", "/v1/sessions", "{}", self.head)
        answer = self.https.getresponse()
        s = json.loads(answer.read())
        if answer.status != 201:
            sys.exit(f"enrolment: {answer.status} {s}")
        self.id, self.key_id, self.models = s["session_id"], s["key_id"], s["models"]
        self.source, self.server, self.port = s["source"], s["address"], s["port"]
        secret = base64.b64decode(s["secret"])
        self.c2s, self.c2s_iv = self.expand(secret, "c2s key", 32), self.expand(secret, "c2s iv", 12)
        self.s2c, self.s2c_iv = self.expand(secret, "s2c key", 32), self.expand(secret, "s2c iv", 12)
        self.counter = 0

    def expand(self, secret, label, n):
        info = b"millrace v1 " + label.encode() + struct.pack("<I", self.key_id) + b"\1"
        return hmac.new(secret, info, hashlib.sha256).digest()[:n]

    @staticmethod
    def nonce(iv, lane, counter):
        return bytes(a ^ b for a, b in zip(iv, struct.pack("<HHQ", lane, 0, counter)))

    def seal(self, text, key_id=None):
        """One sealed datagram with the next counter."""
        counter, self.counter = self.counter, self.counter + 1
        head = struct.pack("<BBHIQ", TYPE_REQUEST, 0, 0, self.key_id if key_id is None else key_id, counter)
        return head + AESGCM(self.c2s).encrypt(self.nonce(self.c2s_iv, 0, counter), text, head)

    def open(self, wire):
        kind, _, lane, key_id, counter = struct.unpack("<BBHIQ", wire[:WIRE])
        assert kind == TYPE_REPLY and key_id == self.key_id
        return AESGCM(self.s2c).decrypt(self.nonce(self.s2c_iv, lane, counter), wire[WIRE:], wire[:WIRE])

    def text(self, model="digits"):
        """Plaintext of an honest request: one row of zeros."""
        m = next(m for m in self.models if m["name"] == model)
        request = struct.pack("<QIIBBBBHH", 7 + self.counter, m["id"], 0, F32, 0, 1, 0, 1, 0)
        return request + bytes(m["row_in_bytes"])

    def close(self):
        self.https.request("DELETE", "/v1/sessions/" + self.id, headers=self.head)
        self.https.getresponse().read()


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Wire:
    """Raw frames on one interface, to and from the server's data port."""

    def __init__(self, interface, session, server_mac):
        self.s, self.port = session, 40000 + os.getpid() % 20000
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.sock.bind((interface, 0))
        self.macs = bytes.fromhex(server_mac.replace(":", "")) + self.sock.getsockname()[4]

    def frame(self, payload, source=None, udp_bytes=None, fragment=0x4000):
        udp = UDP + len(payload) if udp_bytes is None else udp_bytes
        ends = socket.inet_aton(source or self.s.source) + socket.inet_aton(self.s.server)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, IP + UDP + len(payload), 1, fragment, 64, 17, 0) + ends
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        head = struct.pack("!HHHH", self.port, self.s.port, udp, 0)
        total = checksum(ends + struct.pack("!BBH", 0, 17, udp) + head + payload) or 0xFFFF
        return self.macs + b"\x08\x00" + ip + head[:6] + struct.pack("!H", total) + payload

    def send(self, frame):
        self.sock.send(frame)

    def replies(self, wait_s):
        """IPv4 frames from the server's MAC, for wait_s. Its kernel has no IPv4 address there, and its ARP
        and IPv6 housekeeping is none of ours."""
        got, end = [], time.monotonic() + wait_s
        while True:
            self.sock.settimeout(max(end - time.monotonic(), 1e-4))
            try:
                frame = self.sock.recv(65535)
            except (TimeoutError, BlockingIOError):
                return got
            if frame[6:12] == self.macs[:6] and frame[12:14] == b"\x08\x00":
                got.append(frame)

    def honest(self):
        """One honest request is answered with a result, exactly once."""
        self.send(self.frame(self.s.seal(self.s.text())))
        got = self.replies(QUIET_S)
        if len(got) != 1:
            sys.exit(f"an honest request brought {len(got)} frames")
        text = self.s.open(got[0][ETH + IP + UDP:])
        if text[12] != RESULT:
            sys.exit(f"an honest request was answered with status {text[12]}")


# Each kind yields frames. rng is seeded: a failure can be run again.
def truncated(w, rng):
    wire = w.s.seal(w.s.text())
    whole = w.frame(wire)
    for n in range(ETH, len(whole)):  # the network lost the end
        yield whole[:n]
    for n in range(len(wire)):  # the sender lost the end, and all lengths agree
        yield w.frame(wire[:n])


def flipped(w, rng):
    wire = w.s.seal(w.s.text())
    for bit in range(len(wire) * 8):  # behind a right checksum: only the tag can tell
        yield w.frame(bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(wire)))
    whole = w.frame(wire)
    for bit in range(ETH * 8, (ETH + IP + UDP) * 8):  # in the headers, nobody repaired them
        yield bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(whole))


def replayed(w, rng):
    frame = w.frame(w.s.seal(w.s.text()))
    w.send(frame)
    if len(w.replies(QUIET_S)) != 1:
        sys.exit("the original was not answered")
    for _ in range(1000):
        yield frame


def forged(w, rng):
    """The right key id, address and counters, as anybody on the path sees them; but not the key."""
    for i in range(2000):
        head = struct.pack("<BBHIQ", TYPE_REQUEST, 0, 0, w.s.key_id, w.s.counter + (i if i % 2 else i << 32))
        yield w.frame(head + rng.randbytes(REQUEST + 256 + TAG))


def stranger(w, rng):
    for _ in range(500):
        yield w.frame(w.s.seal(w.s.text(), key_id=w.s.key_id ^ (1 << rng.randrange(32))))


def elsewhere(w, rng):
    """Genuine, but from an address that the session is not bound to."""
    for i in range(500):
        yield w.frame(w.s.seal(w.s.text()), source=f"10.77.0.{3 + i % 250}")


def oversized(w, rng):
    """Genuine, and longer than any datagram; then longer than the packet says; then in fragments."""
    for n in range(1201, 1473):
        yield w.frame(w.s.seal(bytes(n - WIRE - TAG)))
    for extra in (1, 8, 1000, 65535 - 400):
        yield w.frame(w.s.seal(w.s.text()), udp_bytes=UDP + 312 + extra)
    for fragment in (0x2000, 0x2001, 0x0001, 0x1FFF):
        yield w.frame(w.s.seal(w.s.text()), fragment=fragment)


KINDS = {k.__name__: k for k in (truncated, flipped, replayed, forged, stranger, elsewhere, oversized)}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("kind", choices=KINDS)
    p.add_argument("--url", required=True, help="control's HOST:PORT")
    p.add_argument("--interface", required=True, help="of the data network")
    p.add_argument("--server-mac", required=True)
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    session = Session(o.url, os.environ["MILLRACE_API_KEY"])
    w = Wire(o.interface, session, o.server_mac)
    w.honest()
    sent = 0
    for frame in KINDS[o.kind](w, random.Random(o.seed)):
        w.send(frame)
        sent += 1
        if sent % 64 == 0:
            time.sleep(0.002)  # the receive queue is no part of this test
    came_back = len(w.replies(QUIET_S))
    w.honest()
    session.close()
    print(json.dumps({"kind": o.kind, "sent": sent, "replies": came_back}))


if __name__ == "__main__":
    main()
