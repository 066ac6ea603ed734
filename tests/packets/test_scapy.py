#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random packets built by scapy, judged by scapy and by our parser: the two must agree."""
import os
import random
import subprocess
import sys
import time

from scapy.all import (ARP, Dot1Q, Ether, ICMP, ICMPv6EchoRequest, ICMPv6ND_NS, IP, IPv6,
                       IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPOption_NOP, Raw, UDP)

SERVER_MAC, CLIENT_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
SERVER4, CLIENT4, SERVER6, CLIENT6, PORT = "10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2", 4433
MIN, MAX = 56, 1200


def payload(rng, size):
    head = bytes([0x11, rng.randrange(4), rng.randrange(8), 0]) + rng.randbytes(12)
    return (head + rng.randbytes(size))[:size] if size else b""


def link(rng):
    frame = Ether(src=CLIENT_MAC, dst=SERVER_MAC)
    return frame / Dot1Q(vlan=rng.randrange(1, 4095)) if rng.random() < 0.25 else frame


def network(rng):
    if rng.random() < 0.5:
        return IP(src=CLIENT4, dst=SERVER4, ttl=rng.randrange(1, 256), tos=rng.randrange(256),
                  flags=rng.choice(["DF", 0]), id=rng.randrange(65536))
    return IPv6(src=CLIENT6, dst=SERVER6, hlim=rng.randrange(1, 256), fl=rng.randrange(1 << 20))


def datagram(rng, **fields):
    size = rng.choice([0, 15, 16, 55, 56, 57, 128, 777, 1199, 1200, 1201, 1300])
    udp = UDP(sport=rng.randrange(1, 65536), dport=fields.pop("dport", PORT), **fields)
    return network(rng), udp, Raw(payload(rng, size))


# Each recipe returns a frame; what is right is worked out afterwards, from the bytes, by judge().
def good(rng):
    ip, udp, data = datagram(rng)
    return link(rng) / ip / udp / data


def other_port(rng):
    ip, udp, data = datagram(rng, dport=rng.choice([53, 4432, 4434, 443]))
    return link(rng) / ip / udp / data


def bad_udp_checksum(rng):
    ip, udp, data = datagram(rng, chksum=rng.randrange(1, 65536))
    return link(rng) / ip / udp / data


def no_udp_checksum(rng):
    ip, udp, data = datagram(rng, chksum=0)
    return link(rng) / ip / udp / data


def bad_ip_checksum(rng):
    _, udp, data = datagram(rng)
    return link(rng) / IP(src=CLIENT4, dst=SERVER4, chksum=rng.randrange(65536)) / udp / data


def wrong_udp_length(rng):
    ip, udp, data = datagram(rng, len=rng.randrange(0, 1400))
    return link(rng) / ip / udp / data


def fragment(rng):
    _, udp, data = datagram(rng)
    if rng.random() < 0.5:
        return link(rng) / IP(src=CLIENT4, dst=SERVER4, frag=rng.randrange(0, 99), flags="MF") / udp / data
    return link(rng) / IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrFragment(m=1) / udp / data


def options(rng):
    _, udp, data = datagram(rng)
    if rng.random() < 0.5:
        return link(rng) / IP(src=CLIENT4, dst=SERVER4, options=[IPOption_NOP()] * 4) / udp / data
    header = rng.choice([IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop])()
    return link(rng) / IPv6(src=CLIENT6, dst=SERVER6) / header / udp / data


def echo(rng):
    body = Raw(rng.randbytes(rng.randrange(0, 500)))
    damage = {} if rng.random() < 0.6 else {"chksum" if rng.random() < 0.5 else "cksum": rng.randrange(65536)}
    if rng.random() < 0.5:
        return link(rng) / IP(src=CLIENT4, dst=SERVER4) / ICMP(
            type=8, **{"chksum": v for v in damage.values()}) / body
    return link(rng) / IPv6(src=CLIENT6, dst=SERVER6) / ICMPv6EchoRequest(
        data=bytes(body), **{"cksum": v for v in damage.values()})


def neighbours(rng):
    if rng.random() < 0.5:
        return Ether(src=CLIENT_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(
            hwsrc=CLIENT_MAC, psrc=CLIENT4, pdst=rng.choice([SERVER4, "10.77.0.7"]))
    return Ether(src=CLIENT_MAC, dst="33:33:ff:00:00:01") / IPv6(
        src=CLIENT6, dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=SERVER6)


def truncated(rng):
    frame = bytes(good(rng))
    return frame[:rng.randrange(len(frame))]


def judge_udp(ip, body_bytes):
    udp = ip[UDP]
    if udp.len != body_bytes or udp.dport != PORT:
        return "DROP_L4"
    size = udp.len - 8
    if not MIN <= size <= MAX:
        return "DROP_LENGTH"
    if udp.chksum == 0:
        return "DATAGRAM" if ip.version == 4 else "DROP_CHECKSUM"
    bare = ip.copy()
    bare[UDP].chksum = None
    fresh = ip.__class__(bytes(bare))[UDP].chksum
    return "DATAGRAM" if fresh == udp.chksum else "DROP_CHECKSUM"


def judge_echo(ip, layer, field, verdict):
    bare = ip.copy()
    have = getattr(bare[layer], field)
    setattr(bare[layer], field, None)
    return verdict if getattr(ip.__class__(bytes(bare))[layer], field) == have else "DROP_CHECKSUM"


def judge(raw):
    """What scapy's dissection of the bytes says our parser should say; None = no opinion."""
    frame = Ether(raw)
    if ARP in frame:
        return "ARP" if frame[ARP].pdst == SERVER4 else "DROP_NEIGHBOUR"
    if IP in frame:
        ip = frame[IP]
        if ip.ihl > 5:
            return "DROP_EXTENSION"
        if ip.frag or ip.flags.MF:
            return "DROP_FRAGMENT"
        bare = ip.copy()
        bare.chksum = None
        if IP(bytes(bare)).chksum != ip.chksum:
            return "DROP_CHECKSUM"
        if UDP in ip:
            return judge_udp(ip, ip.len - 20)
        return judge_echo(ip, ICMP, "chksum", "ECHO4")
    if IPv6 in frame:
        ip = frame[IPv6]
        if ip.nh == 44:
            return "DROP_FRAGMENT"
        if ip.nh in (0, 60):
            return "DROP_EXTENSION"
        if UDP in ip:
            return judge_udp(ip, ip.plen)
        if ICMPv6ND_NS in ip:
            return "ND"
        return judge_echo(ip, ICMPv6EchoRequest, "cksum", "ECHO6")
    return None


def main():
    seed = int(os.environ.get("SEED", "20261123"))
    rng = random.Random(seed)
    recipes = [good, good, other_port, bad_udp_checksum, no_udp_checksum, bad_ip_checksum,
               wrong_udp_length, fragment, options, echo, neighbours, truncated]
    frames, wanted, origins = [], [], []
    for i in range(1200):
        recipe = recipes[i % len(recipes)]
        raw = bytes(recipe(rng))
        frames.append(raw)
        origins.append(recipe.__name__)
        wanted.append("DROP" if recipe is truncated else judge(raw))
    driver = os.path.join(os.environ.get("BUILD", "build"), "tests", "test_parse")
    lines = "".join(f.hex() + "\n" for f in frames)
    out = subprocess.run([driver, "--hex"], input=lines, capture_output=True, text=True, check=True).stdout
    got = [line.split()[0] for line in out.splitlines()]
    failed = abs(len(got) - len(frames))
    for raw, want, have, origin in zip(frames, wanted, got, origins):
        if have != want and not (want == "DROP" and have.startswith("DROP_")):
            failed += 1
            print(f"{origin}: scapy says {want}, the parser {have}: {raw.hex()}")
    kinds = {k: got.count(k) for k in sorted(set(got))}
    print(f"seed {seed}: {kinds}")
    if kinds.get("DATAGRAM", 0) < 100:
        failed += 1
        print("too few good datagrams: this run proves nothing")
    print(f"{len(frames) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    start = time.time()
    code = main()
    print(f"({time.time() - start:.1f} s)", file=sys.stderr)
    sys.exit(code)
