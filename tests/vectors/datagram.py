#!/usr/bin/env python3
"""Makes datagram.json by an implementation of PROTOCOL.md, 4 that shares no code with the crate.

    pip install pynacl && python3 datagram.py > datagram.json

Sealed boxes take no seed, so every run gives other packets: all of them open.
"""

import hashlib
import json

from nacl.bindings import crypto_box, crypto_box_seal
from nacl.public import PrivateKey


def H(n, key, *pieces):
    return hashlib.blake2b(b"".join(pieces), key=key, digest_size=n).digest()


def be(value, size):
    return value.to_bytes(size, "big")


recipient = PrivateKey(H(32, b"AnonChat vectors", b"recipient"))
sender = PrivateKey(H(32, b"AnonChat vectors", b"sender"))
R_pk, S_pk = bytes(recipient.public_key), bytes(sender.public_key)
access = H(32, b"AnonChat vectors", b"access")
ack_key = H(32, b"AnonChat vectors", b"ack key")
TIME_MS = 1_700_000_000_000


def mac1(secret, to, sealed):
    return H(16, H(32, secret, b"AnonChat v1 mac1", to), sealed)


def packet(kind, flags, run, sequence, fragment, of, body, *, frm=sender, to=R_pk, mac_secret=access,
           acks=ack_key, time_ms=TIME_MS):
    message_id = run + be(sequence, 8)
    payload = message_id + be(time_ms, 8) + acks + be(fragment, 2) + be(of, 2) + be(len(body), 2)
    payload = (payload + body).ljust(1060, b"\0")
    nonce = H(24, b"AnonChat vectors", b"nonce", bytes([kind]), be(flags, 2), message_id, be(fragment, 2))
    inner = bytes([1, kind]) + be(flags, 2) + bytes(frm.public_key) + nonce
    inner += crypto_box(payload, nonce, to, bytes(frm))
    assert len(payload) == 1060 and len(inner) == 1136
    sealed = crypto_box_seal(inner, to)
    whole = mac1(mac_secret, to, sealed) + sealed
    assert len(whole) == 1200
    return {
        "kind": kind, "flags": flags, "id": message_id.hex(), "time_ms": time_ms,
        "ack_key": acks.hex(), "fragment": fragment, "of": of, "body": body.hex(),
        "nonce": nonce.hex(), "inner": inner.hex(), "mac1": whole[:16].hex(), "packet": whole.hex(),
    }


def ack(message_id, fragment, status, key=ack_key):
    value = H(32, key, b"AnonChat v1 ack", bytes.fromhex(message_id), be(fragment, 2), bytes([status]))
    return {"fragment": fragment, "status": status, "ack": value.hex()}



def vectors():
    run = bytes(range(1, 9))
    long = bytes(i % 251 for i in range(1500))
    packets = {
        "one fragment": packet(0, 0, run, 0, 0, 1, b"hi\n"),
        "first of two fragments, more to come": packet(0, 2, b"two-frag", 0, 0, 2, long[:998]),
        "second of two fragments, more to come": packet(0, 2, b"two-frag", 0, 1, 2, long[998:]),
        "for a file": packet(0, 4, b"box-file", 0, 0, 1, b"from a stick\n"),
        "probe": packet(2, 0, b"probe-id", 0, 0, 1, b"\xa0"),
        "here": packet(3, 0, b"probe-id", 0, 0, 1, b"\xa0", frm=recipient, to=S_pk, mac_secret=ack_key,
                       acks=bytes(32)),
    }
    one = packets["one fragment"]["id"]
    return {
        "about": "made by datagram.py; PROTOCOL.md, 4.7",
        "recipient_secret": bytes(recipient).hex(), "recipient_public": R_pk.hex(),
        "sender_secret": bytes(sender).hex(), "sender_public": S_pk.hex(),
        "access": access.hex(), "mac1_key": H(32, access, b"AnonChat v1 mac1", R_pk).hex(),
        "packets": packets,
        "acks": [ack(one, 0, 0), ack(one, 0xFFFF, 1), ack(one, 0xFFFF, 2)],
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))
