#!/usr/bin/env python3
"""PROTOCOL.md, section 5, written a second time. It shares no code with the crate: X25519 is the
package cryptography, links are stream.py, packets datagram.py, and the rest is below.

    pip install pynacl noiseprotocol kyber-py cryptography
    python3 relay.py > relay.json    makes the vectors (sealed boxes differ in every run)
    python3 relay.py link            is a client of a real ac-relay
    python3 relay.py send, circuit   reaches a real ac-listen there
    python3 relay.py receive         takes a message from a real ac-send there

The last three read one JSON object on stdin and write one line of JSON a step.
"""

import hashlib
import json
import os
import socket
import sys

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

import stream

NOOP, POST, SUBSCRIBE, CELL, ACK, ERROR, CONNECT, JOINED, LIVE, LEAVE = range(10)
VOLATILE = 1
CELL_LEN, HEAD_LEN = 1280, 52
EPOCH_MS = 86_400_000


def H(n, key, *pieces):
    return hashlib.blake2b(b"".join(pieces), key=key, digest_size=n).digest()


def be(value, size):
    return value.to_bytes(size, "big")


def dh(secret, public):
    return X25519PrivateKey.from_private_bytes(secret).exchange(
        X25519PublicKey.from_public_bytes(public))


# 5.3: channels, mailboxes, proofs


def pair(secret, other, sender, recipient):
    return H(32, dh(secret, other), b"AnonChat v1 pair", sender, recipient)


def receipts(ack_key, message_id):
    return H(32, ack_key, b"AnonChat v1 receipts", message_id)


def blind(channel, reader, epoch):
    return H(32, channel, b"AnonChat v1 blind", reader, be(epoch, 8))


def address(channel, reader, epoch):
    return dh(blind(channel, reader, epoch), reader)


def proof(channel, reader_secret, epoch, challenge, link_hash):
    reader = stream.public_of(reader_secret)
    shared = dh(blind(channel, reader, epoch), dh(reader_secret, challenge))
    return H(16, shared, b"AnonChat v1 mailbox proof", link_hash, address(channel, reader, epoch))


def open_access(relay_public):
    return H(32, relay_public, b"AnonChat v1 open relay")


# 5.2: cells


def cell(command, flags=0, id=0, log=bytes(8), address=bytes(32), body=b"", length=None):
    length = len(body) if length is None else length
    head = bytes([command, flags]) + be(length, 2) + be(id, 8) + log + address
    assert len(head) == HEAD_LEN
    return (head + body).ljust(CELL_LEN, b"\0")


def parse(plain):
    assert len(plain) == CELL_LEN
    length = int.from_bytes(plain[2:4], "big")
    assert not any(plain[HEAD_LEN + length:])
    return {"command": plain[0], "flags": plain[1], "id": int.from_bytes(plain[4:12], "big"),
            "log": plain[12:20], "address": plain[20:52], "body": plain[HEAD_LEN:HEAD_LEN + length]}


def fixed(name, size=32):
    return H(size, b"AnonChat vectors", name)


def pattern(size):
    return bytes(i % 251 for i in range(size))


LOG, PLACE = fixed(b"log", 8), fixed(b"place")


def good_cells():
    """Every command, by both sides where both have it: name, who says it, fields."""
    mailbox = dict(log=LOG, address=PLACE)
    return [
        ("NOOP", "both", dict(command=NOOP)),
        ("POST", "client", dict(command=POST, id=7, address=PLACE, body=pattern(1200))),
        ("POST, volatile", "client",
         dict(command=POST, flags=VOLATILE, address=PLACE, body=pattern(1200))),
        ("SUBSCRIBE to all", "client", dict(command=SUBSCRIBE, address=PLACE, body=pattern(16))),
        ("SUBSCRIBE from a cursor", "client",
         dict(command=SUBSCRIBE, id=1 << 40, body=pattern(16), **mailbox)),
        ("CELL", "relay", dict(command=CELL, id=2 ** 64 - 1, body=pattern(1200), **mailbox)),
        ("CELL, volatile", "relay",
         dict(command=CELL, flags=VOLATILE, id=3, body=pattern(1200), **mailbox)),
        ("ACK of a POST", "relay", dict(command=ACK, id=7)),
        ("ACK of cells", "client", dict(command=ACK, id=41, **mailbox)),
        ("ERROR of a POST", "relay", dict(command=ERROR, id=7, address=PLACE, body=b"\1")),
        ("ERROR of a CONNECT", "relay", dict(command=ERROR, body=b"\4")),
        ("CONNECT", "client", dict(command=CONNECT, body=pattern(32))),
        ("JOINED", "relay", dict(command=JOINED)),
        ("LIVE", "relay", dict(command=LIVE, id=42, **mailbox)),
        ("LEAVE", "client", dict(command=LEAVE, address=PLACE)),
    ]


def patched(plain, at, value):
    return plain[:at] + bytes([value]) + plain[at + 1:]


def bad_cells():
    """One for each way to break L2: name, who says it, the good cell it is made of, the cell."""
    made = {name: (by, cell(**fields)) for name, by, fields in good_cells()}
    noop = made["NOOP"][1]
    yield "the first command that there is not", "both", "NOOP", patched(noop, 0, 10)
    yield "the last command that there is not", "both", "NOOP", patched(noop, 0, 255)
    for name in ("POST, volatile", "CELL, volatile", "SUBSCRIBE to all", "ERROR of a CONNECT"):
        del made[name]
    for name, (by, plain) in made.items():
        # Which fields the table gives an entry: by any side that may say it.
        uses = {NOOP: "", POST: "id address", SUBSCRIBE: "id log address", CELL: "id log address",
                ACK: "id" if by == "relay" else "id log address", ERROR: "id address", CONNECT: "",
                JOINED: "", LIVE: "id log address", LEAVE: "address"}[plain[0]].split()
        for field, at in (("id", 11), ("log", 12), ("address", 51)):
            if field not in uses:
                yield f"{name} with a field that it has not: {field}", by, name, patched(plain, at, 1)
        yield f"{name} with an unknown flag", by, name, patched(plain, 1, 2 | plain[1])
        if plain[0] not in (POST, CELL):
            yield f"{name} with the flag of POST", by, name, patched(plain, 1, VOLATILE)
        length = int.from_bytes(plain[2:4], "big")
        for other in {max(length - 1, 0), length + 1, 0, 1228, 1229, 65535} - {length}:
            if other >= length or not any(plain[HEAD_LEN + other:]):
                yield f"{name} with a body of {other}", by, name, plain[:2] + be(other, 2) + plain[4:]
        shorter = max(length - 1, 0)
        if shorter != length:
            short = plain[:2] + be(shorter, 2) + plain[4:HEAD_LEN + shorter]
            yield f"{name} with a shorter body", by, name, short.ljust(CELL_LEN, b"\0")
        yield f"{name} with a byte right behind the body", by, name, patched(plain, HEAD_LEN + length, 1)
        yield f"{name} with a last byte that is not zero", by, name, patched(plain, CELL_LEN - 1, 1)
        if by != "both" and name != "ACK of a POST":
            yield f"{name} from the other side", {"client": "relay", "relay": "client"}[by], name, plain


def stripped(plain):
    return plain.rstrip(b"\0").hex()


def changes(plain, base):
    """Where a cell differs from a good one: offset and byte."""
    return {str(at): f"{byte:02x}" for at, byte in enumerate(plain) if byte != base[at]}


# 5.4: packets


def packets():
    import datagram
    bob, alice, ack_key = datagram.recipient, datagram.sender, datagram.ack_key
    alice_pk = bytes(alice.public_key)
    run, instance, rendezvous = b"by-relay", bytes(range(100, 108)), fixed(b"rendezvous")
    head = b"\x58\x20" + rendezvous

    def packet(*fields, **more):
        made = datagram.packet(*fields, **more)
        return {name: value for name, value in made.items() if name not in ("inner", "nonce")}

    def ask(kind, body, fragment=0, of=1, acks=ack_key, run=run):
        return packet(kind, 1, run, 0, fragment, of, body, acks=acks)

    def answer(kind, body):
        return packet(kind, 1, run, 0, 0, 1, body, frm=bob, to=alice_pk, mac_secret=ack_key,
                      acks=bytes(32))

    meet = dict(acks=bytes(32), run=rendezvous[:8])
    meta = stream.meta(bytes(range(16)), datagram.TIME_MS)
    item = be(len(meta), 2) + meta + b"hi\n"
    message_id = (run + bytes(8)).hex()
    receipt = {status: answer(4, bytes.fromhex(datagram.ack(message_id, 0xFFFF, status)["ack"]))
               for status in range(3)}
    long = pattern(1500)
    return {
        "recipient_secret": bytes(bob).hex(), "sender_secret": bytes(alice).hex(),
        "access": datagram.access.hex(), "ack_key": ack_key.hex(), "message_id": message_id,
        "time_ms": datagram.TIME_MS, "rendezvous": rendezvous.hex(), "instance": instance.hex(),
        "packets": {
            "message": ask(0, b"hi\n"),
            "item, first": ask(6, long[:998], 0, 2), "item, second": ask(6, long[998:], 1, 2),
            "item, a small file": ask(6, item),
            "probe": ask(2, b"\xa0"), "here": answer(3, b"\xa1\x03\x48" + instance),
            "receipt 0": receipt[0], "receipt 1": receipt[1], "receipt 2": receipt[2],
            "meet": ask(5, b"\xa1\0" + head, **meet),
            "meet, of one instance": ask(5, b"\xa2\0" + head + b"\1\x48" + instance, **meet),
            "meet, with a key of later": ask(5, b"\xa2\0" + head + b"\x17\xf5", **meet),
        },
        # Bodies of MEET that are none.
        "not_meet": {name: body.hex() for name, body in {
            "without a rendezvous": b"\xa0", "a short rendezvous": b"\xa1\0\x58\x1f" + rendezvous[:31],
            "a long instance": b"\xa2\0" + head + b"\1\x49" + instance + b"\0",
            "bytes behind the map": b"\xa1\0" + head + b"\0", "indefinite": b"\xbf\0" + head + b"\xff",
            "twice": b"\xa2\0" + head + b"\0" + head, "an array": b"\x82\0" + head,
            "seventeen entries": b"\xb1\0" + head + b"".join(b"\x18" + bytes([k, 0]) for k in range(24, 40)),
        }.items()},
    }


def vectors():
    reader_secret, poster_secret = fixed(b"reader"), fixed(b"poster")
    reader, poster = stream.public_of(reader_secret), stream.public_of(poster_secret)
    access, ack_key = fixed(b"access of the reader"), fixed(b"ack key")
    message_id, link_hash = bytes(range(16)), fixed(b"link", 64)
    challenge_secret = fixed(b"challenge")
    challenge = stream.public_of(challenge_secret)
    to_reader = pair(poster_secret, reader, poster, reader)
    assert to_reader == pair(reader_secret, poster, poster, reader)
    # Who reads the mailbox of each channel: receipts come back to the poster.
    channels = {
        "pair": (to_reader, reader_secret),
        "pair, the other way": (pair(reader_secret, poster, reader, poster), poster_secret),
        "public": (access, reader_secret), "group": (access, reader_secret),
        "receipts": (receipts(ack_key, message_id), poster_secret),
    }
    mailboxes = []
    for name, (channel, secret) in channels.items():
        for epoch in (0, 19675, 19676, 2 ** 64 - 1):
            public = stream.public_of(secret)
            place, said = address(channel, public, epoch), proof(channel, secret, epoch, challenge, link_hash)
            # What the relay computes.
            assert said == H(16, dh(challenge_secret, place), b"AnonChat v1 mailbox proof", link_hash, place)
            mailboxes.append({"channel": name, "epoch": epoch, "address": place.hex(),
                              "blind": blind(channel, public, epoch).hex(), "proof": said.hex()})
    fields_of = {name: fields for name, _, fields in good_cells()}
    return {
        "about": "made by relay.py; PROTOCOL.md, 5.8. Cells are without the zeros at their end.",
        "reader_secret": reader_secret.hex(), "reader_public": reader.hex(),
        "poster_secret": poster_secret.hex(), "poster_public": poster.hex(),
        "access": access.hex(), "ack_key": ack_key.hex(), "message_id": message_id.hex(),
        "link_hash": link_hash.hex(), "challenge_secret": challenge_secret.hex(),
        "challenge": challenge.hex(), "open_access_of_reader_public": open_access(reader).hex(),
        "epochs": [[ms, ms // EPOCH_MS] for ms in (0, EPOCH_MS - 1, EPOCH_MS, 1_700_000_000_000)],
        "mailboxes": mailboxes,
        "welcome": {"ttl_s": 604_800, "body": (b"\xa2\1\x58\x20" + challenge + b"\3" + stream.cbor_uint(604_800)).hex()},
        "cells": [{"name": name, "from": by, "cell": stripped(cell(**fields)),
                   **{k: v.hex() if isinstance(v, bytes) else v for k, v in fields.items()}}
                  for name, by, fields in good_cells()],
        "malformed": [{"name": name, "from": by, "made_of": base,
                       "changes": changes(plain, cell(**fields_of[base]))}
                      for name, by, base, plain in bad_cells()],
        "packets": packets(),
    }


# A client of a real relay


class Link:
    """A link of 5.1, from the handshake on."""

    def __init__(self, port, public, access):
        self.wire = stream.Wire(socket.create_connection(("127.0.0.1", port)))
        self.peer = stream.Peer(True, os.urandom(32), access, public)
        kem_public, kem_secret = stream.ML_KEM_768.keygen()
        self.wire.write(self.peer.write_hello(stream.now_ms(), kem_public))
        ciphertext = self.peer.read_reply(self.wire.read(1248))
        self.peer.shared(stream.ML_KEM_768.decaps(kem_secret, ciphertext))
        self.wire.write(self.peer.write_confirm())
        self.hash = self.peer.noise.get_handshake_hash()
        kind, body = self.peer.open(self.wire.record())
        assert kind == stream.WELCOME, kind
        # Keys ascend; of those below 1 and 3 a relay of ours sends none.
        at = body.index(b"\1\x58\x20")
        self.challenge = body[at + 3:at + 35]
        self.welcome = body

    def say(self, **fields):
        sealed = bytes(self.peer.noise.encrypt(cell(**fields)))
        self.peer.sent += 1
        if self.peer.sent % stream.REKEY_AFTER == 0:
            self.peer.noise.rekey_outbound_cipher()
        assert len(sealed) == 1296
        self.wire.write(be(1296, 2) + sealed)

    def hear(self):
        while True:
            record = self.wire.read(1298)
            assert record[:2] == be(1296, 2)
            plain = bytes(self.peer.noise.decrypt(record[2:]))
            self.peer.received += 1
            if self.peer.received % stream.REKEY_AFTER == 0:
                self.peer.noise.rekey_inbound_cipher()
            heard = parse(plain)
            if heard["command"] != NOOP:
                return heard

    def expect(self, command, **fields):
        heard = self.hear()
        assert heard["command"] == command, heard
        for name, value in fields.items():
            assert heard[name] == value, (name, heard)
        return heard

    def subscribe(self, channel, secret, epoch, cursor=0, log=bytes(8)):
        place = address(channel, stream.public_of(secret), epoch)
        self.say(command=SUBSCRIBE, id=cursor, log=log, address=place,
                 body=proof(channel, secret, epoch, self.challenge, self.hash))
        return place

    def is_closed(self):
        try:
            return self.wire.connection.recv(1) == b""
        except ConnectionResetError:
            return True


def link(task):
    """Reader and poster of one mailbox, then a circuit, then everything that ends a link."""
    public, access = bytes.fromhex(task["public"]), bytes.fromhex(task["access"])

    def connect():
        return Link(task["port"], public, access)

    secret, poster_secret = os.urandom(32), os.urandom(32)
    reader, poster = stream.public_of(secret), stream.public_of(poster_secret)
    channel, epoch = pair(poster_secret, reader, poster, reader), stream.now_ms() // EPOCH_MS
    place = address(channel, reader, epoch)

    alice = connect()
    first, second = pattern(1200), pattern(1201)[1:]
    alice.say(command=POST, id=70, address=place, body=first)
    alice.expect(ACK, id=70, log=bytes(8), address=bytes(32))
    alice.say(command=POST, id=71, address=place, body=second)
    alice.expect(ACK, id=71)
    stream.say(step="posted", ttl=alice.welcome[alice.welcome.rindex(b"\3"):].hex())

    bob = connect()
    assert bob.subscribe(channel, secret, epoch) == place
    held = [bob.expect(CELL, id=n, address=place, body=body)
            for n, body in enumerate((first, second))]
    log = held[0]["log"]
    assert log == held[1]["log"] != bytes(8)
    bob.expect(LIVE, id=2, log=log, address=place)
    stream.say(step="read what was held")

    alice.say(command=POST, flags=VOLATILE, address=place, body=first)
    bob.expect(CELL, flags=VOLATILE, id=2, log=log, body=first)
    alice.say(command=POST, id=72, address=place, body=second)
    alice.expect(ACK, id=72)
    bob.expect(CELL, flags=0, id=2, log=log, body=second)
    bob.say(command=ACK, id=1, log=log, address=place)
    bob.say(command=LEAVE, address=place)
    bob.subscribe(channel, secret, epoch, cursor=0, log=log)
    bob.expect(CELL, id=2, log=log, body=second)
    bob.expect(LIVE, id=3, log=log)
    stream.say(step="read what came, freed it, and came back")

    again = connect()
    again.subscribe(channel, secret, epoch, cursor=3, log=log)
    again.expect(LIVE, id=3, log=log)
    again.subscribe(channel, secret, epoch, cursor=3, log=fixed(b"another", 8))
    again.expect(CELL, id=2, log=log)
    again.expect(LIVE, id=3, log=log)
    stream.say(step="a cursor holds for its log only")

    for _ in range(task["noops"]):
        alice.say(command=NOOP)
    alice.say(command=POST, id=73, address=place, body=first)
    alice.expect(ACK, id=73)
    bob.expect(CELL, id=3, body=first)
    stream.say(step="went on behind a rekey", sent=alice.peer.sent)

    ends, rendezvous = [connect(), connect()], os.urandom(32)
    for end in ends:
        end.say(command=CONNECT, body=rendezvous)
    for end in ends:
        end.expect(JOINED)
    for one, other in (ends, ends[::-1]):
        one.wire.write(b"raw bytes of %d" % id(one))
        assert other.wire.read(len(b"raw bytes of %d" % id(one))) == b"raw bytes of %d" % id(one)
    ends[0].wire.connection.shutdown(socket.SHUT_WR)
    assert ends[1].is_closed()
    ends[1].wire.write(b"still")
    assert ends[0].wire.read(5) == b"still"
    stream.say(step="joined two links")

    def wrong(name, **fields):
        offender = connect()
        offender.say(**fields)
        assert offender.is_closed(), name

    wrong("proof", command=SUBSCRIBE, address=place, body=bytes(16))
    wrong("somebody else's proof", command=SUBSCRIBE, address=place,
          body=proof(channel, secret, epoch, again.challenge, again.hash))
    wrong("low order", command=POST, id=1, address=(1).to_bytes(32, "little"), body=first)
    wrong("not canonical", command=POST, id=1, address=bytes([0xED]) + b"\xff" * 30 + b"\x7f", body=first)
    wrong("not a client's", command=LIVE, id=1, log=log, address=place)
    wrong("unknown", command=200)
    stream.say(step="ended who broke a rule")

    bob.say(command=NOOP)
    alice.say(command=POST, id=74, address=place, body=second)
    alice.expect(ACK, id=74)
    bob.expect(CELL, id=4, body=second)
    stream.say(step="the others went on")


# Messages and circuits (5.5, 5.6), with real programs at the other end


class Parties:
    """Two people of a task, and a link: "secret" is ours; "peer" and "access" are theirs."""

    def __init__(self, task):
        import datagram
        self.made = datagram
        self.secret, self.peer = bytes.fromhex(task["secret"]), bytes.fromhex(task["peer"])
        self.public, self.access = stream.public_of(self.secret), bytes.fromhex(task["access"])
        self.link = Link(task["port"], bytes.fromhex(task["public"]), bytes.fromhex(task["relay_access"]))

    def packet(self, kind, run, body, fragment=0, of=1, acks=bytes(32), mac_secret=None, time_ms=None):
        from nacl.public import PrivateKey
        made = self.made.packet(kind, 1, run, 0, fragment, of, body, frm=PrivateKey(self.secret),
                                to=self.peer, mac_secret=mac_secret or self.access, acks=acks,
                                time_ms=time_ms or stream.now_ms())
        return bytes.fromhex(made["packet"])

    def opened(self, packet, mac_secret):
        """A packet from the peer to us: kind, and the fields of its payload."""
        from nacl.bindings import crypto_box_open, crypto_box_seal_open
        assert packet[:16] == self.made.mac1(mac_secret, self.public, packet[16:])
        inner = crypto_box_seal_open(packet[16:], self.public, self.secret)
        assert inner[0] == 1 and inner[2:4] == be(1, 2) and inner[4:36] == self.peer
        payload = crypto_box_open(inner[60:], inner[36:60], self.peer, self.secret)
        fragment, of, length = (int.from_bytes(payload[at:at + 2], "big") for at in (56, 58, 60))
        assert not any(payload[62 + length:])
        return {"kind": inner[1], "id": payload[:16], "time_ms": int.from_bytes(payload[16:24], "big"),
                "ack_key": payload[24:56], "fragment": fragment, "of": of,
                "body": payload[62:62 + length]}

    def to_peer(self):
        """The mailbox that the peer reads of us."""
        channel = pair(self.secret, self.peer, self.public, self.peer)
        return address(channel, self.peer, stream.now_ms() // EPOCH_MS)


def send(task):
    """Posts task["message"], and waits for what the recipient says of it."""
    us, message = Parties(task), bytes.fromhex(task["message"])
    run, ack_key, time_ms = os.urandom(8), os.urandom(32), stream.now_ms()
    message_id = run + bytes(8)
    back = us.link.subscribe(receipts(ack_key, message_id), us.secret, time_ms // EPOCH_MS)
    us.link.expect(LIVE, address=back)
    pieces = [message[at:at + 998] for at in range(0, len(message), 998)] or [b""]
    for n, piece in enumerate(pieces):
        us.link.say(command=POST, id=n, address=us.to_peer(),
                    body=us.packet(0, run, piece, n, len(pieces), ack_key, time_ms=time_ms))
    awaited, statuses = set(range(len(pieces))), []
    while 1 not in statuses:
        heard = us.link.hear()
        if heard["command"] == ACK:
            awaited.remove(heard["id"])
            continue
        assert heard["command"] == CELL and heard["address"] == back, heard
        said = us.opened(heard["body"], ack_key)
        assert said["kind"] == 4 and said["id"] == message_id and said["ack_key"] == bytes(32)
        known = {us.made.ack(message_id.hex(), 0xFFFF, n, ack_key)["ack"]: n for n in range(3)}
        statuses.append(known[said["body"].hex()])
    stream.say(step="delivered", unconfirmed=len(awaited), packets=len(pieces))


def receive(task):
    """Reads what the peer writes to us, until a message is whole, and says that it is delivered."""
    us = Parties(task)
    channel = pair(us.secret, us.peer, us.peer, us.public)
    place = us.link.subscribe(channel, us.secret, stream.now_ms() // EPOCH_MS)
    stream.say(step="listening")
    own, pieces, head = bytes.fromhex(task["own_access"]), {}, None
    while head is None or len(pieces) < head["of"]:
        heard = us.link.hear()
        if heard["command"] == LIVE:
            continue
        assert heard["command"] == CELL and heard["address"] == place, heard
        head = us.opened(heard["body"], own)
        assert head["kind"] == 0
        pieces[head["fragment"]] = head["body"]
        last = heard
    acks = bytes.fromhex(us.made.ack(head["id"].hex(), 0xFFFF, 1, head["ack_key"])["ack"])
    receipt = us.packet(4, head["id"][:8], acks, mac_secret=head["ack_key"])
    back = address(receipts(head["ack_key"], head["id"]), us.peer, head["time_ms"] // EPOCH_MS)
    us.link.say(command=POST, id=1, address=back, body=receipt)
    us.link.expect(ACK, id=1)
    us.link.say(command=ACK, id=last["id"], log=last["log"], address=place)
    message = b"".join(pieces[n] for n in range(head["of"]))
    stream.say(step="received", message=message.hex())


def circuit(task):
    """Calls the peer by a circuit, and sends it task["message"] as a stream."""
    us, rendezvous = Parties(task), os.urandom(32)
    meet = us.packet(5, rendezvous[:8], b"\xa1\0\x58\x20" + rendezvous)
    us.link.say(command=POST, flags=VOLATILE, address=us.to_peer(), body=meet)
    us.link.say(command=CONNECT, body=rendezvous)
    us.link.expect(JOINED)
    stream.say(step="joined")
    stream.speak(us.link.wire, task)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(json.dumps(vectors(), indent=1, ensure_ascii=False))
    else:
        roles = {"link": link, "send": send, "receive": receive, "circuit": circuit}
        roles[sys.argv[1]](json.load(sys.stdin))
