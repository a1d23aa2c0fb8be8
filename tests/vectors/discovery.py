#!/usr/bin/env python3
"""Makes discovery.json: bodies of PROBE and HERE and the proof of an introduction, with PyNaCl and
hashlib and CBOR written by hand, and no code in common with the crate. PROTOCOL.md, 6.2, 6.3, 6.5."""
import hashlib
import ipaddress
import json
import sys
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base


def head(major, n):
    for bits, limit in ((24, 1 << 8), (25, 1 << 16), (26, 1 << 32)):
        if n < 24:
            return bytes([major << 5 | n])
        if n < limit:
            return bytes([major << 5 | bits]) + n.to_bytes(1 << (bits - 24), "big")
    raise ValueError(n)


def cbor(value):
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value.items())


def packed(*texts):
    return [ipaddress.ip_address(text).packed for text in texts]


member_sk, e_sk, group_sk = (hashlib.blake2b(b"discovery vector %d" % n, digest_size=32).digest()
                             for n in range(3))
member, e, group = map(crypto_scalarmult_base, (member_sk, e_sk, group_sk))
message_id = bytes(range(8)) + (0).to_bytes(8, "big")
access, name, instance = bytes([7]) * 32, "al\u00efce", bytes(range(100, 108))
proof = hashlib.blake2b(
    b"AnonChat v1 introduction" + message_id + group + member + access + name.encode(),
    key=crypto_scalarmult(member_sk, e), digest_size=32).digest()

probe = cbor({0: packed("10.0.0.1", "fd00::1"), 1: 40000, 2: e})
plain_probe = cbor({0: packed("192.168.1.7"), 1: 23})
here = cbor({0: packed("10.0.0.5", "fe80::5"), 1: [[0, 1234], [1, 70]],
             2: [member, access, name, proof], 3: instance})
plain_here = cbor({0: packed("10.0.0.5"), 1: [[0, 65535]], 3: instance})

json.dump({
    "probe": probe.hex(), "plain_probe": plain_probe.hex(),
    "here": here.hex(), "plain_here": plain_here.hex(),
    "member_secret": member_sk.hex(), "throwaway_secret": e_sk.hex(), "group": group.hex(),
    "message_id": message_id.hex(), "access": access.hex(), "name": name, "proof": proof.hex(),
    "instance": instance.hex(),
}, sys.stdout, indent=2)
print()
