#!/usr/bin/env python3
"""PROTOCOL.md, section 3, written a second time. It shares no code with the crate: Noise is the
package noiseprotocol, ML-KEM-768 the package kyber-py, records and CBOR are below.

    pip install noiseprotocol kyber-py cryptography
    python3 stream.py > stream.json    makes the vectors; the same bytes every time
    python3 stream.py initiate         sends a message to a real ac-listen
    python3 stream.py respond          takes a message from a real ac-send

The last two read one JSON object on stdin and write one line of JSON a step.
"""

import hashlib
import json
import os
import socket
import struct
import sys
import time
import warnings

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kyber_py.ml_kem import ML_KEM_768
from noise.connection import Keypair, NoiseConnection

# A fixed ephemeral key is what a vector is; noiseprotocol warns of it.
warnings.simplefilter("ignore")

SUITE = b"Noise_XKpsk0+psk3_25519_AESGCM_BLAKE2b"
PROLOGUE = b"AnonChat/1 stream"
META, DATA, END, ACK, REFUSE, PAD, RESUME, ABORT, WELCOME = range(9)
REKEY_AFTER = 1 << 14
MAX_PLAIN = 65519


def public_of(secret):
    key = X25519PrivateKey.from_private_bytes(secret)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class Peer:
    """One side of the handshake of 3.1; after message 3, of the records of 3.3."""

    def __init__(self, initiator, secret, access, peer_public=None, ephemeral=None):
        self.noise = NoiseConnection.from_name(SUITE)
        # psk3 is not known yet; shared() puts it in its place.
        self.noise.set_psks(psks=[access, bytes(32)])
        self.noise.set_prologue(PROLOGUE)
        self.noise.set_keypair_from_private_bytes(Keypair.STATIC, secret)
        if ephemeral:
            self.noise.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
        if initiator:
            self.noise.set_as_initiator()
            self.noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, peer_public)
        else:
            self.noise.set_as_responder()
        self.noise.start_handshake()
        self.sent = self.received = 0

    def shared(self, secret):
        self.noise.noise_protocol.psks[-1] = secret

    # Message 1

    def write_hello(self, time_ms, kem_public):
        payload = bytes([1, 0]) + bytes(6) + struct.pack(">Q", time_ms) + kem_public
        assert len(payload) == 1200
        return bytes(self.noise.write_message(payload))

    def read_hello(self, hello):
        payload = bytes(self.noise.read_message(hello))
        assert len(payload) == 1200 and payload[:8] == bytes([1, 0]) + bytes(6)
        return struct.unpack(">Q", payload[8:16])[0], payload[16:]

    # Message 2

    def write_reply(self, ciphertext):
        payload = bytes([1, 0]) + bytes(6) + ciphertext + bytes(104)
        assert len(payload) == 1200
        return bytes(self.noise.write_message(payload))

    def read_reply(self, reply):
        payload = bytes(self.noise.read_message(reply))
        assert len(payload) == 1200 and payload[:8] == bytes([1, 0]) + bytes(6)
        assert payload[1096:] == bytes(104)
        return payload[8:1096]

    # Message 3

    def write_confirm(self):
        return bytes(self.noise.write_message(bytes(16)))

    def read_confirm(self, confirm):
        state = self.noise.noise_protocol.handshake_state
        assert bytes(self.noise.read_message(confirm)) == bytes(16)
        return state.rs.public_bytes

    # Records

    def seal(self, kind, body):
        sealed = bytes(self.noise.encrypt(plaintext(kind, body)))
        self.sent += 1
        if self.sent % REKEY_AFTER == 0:
            self.noise.rekey_outbound_cipher()
        return struct.pack(">H", len(sealed)) + sealed

    def open(self, record):
        assert struct.unpack(">H", record[:2])[0] == len(record) - 2
        plain = bytes(self.noise.decrypt(record[2:]))
        self.received += 1
        if self.received % REKEY_AFTER == 0:
            self.noise.rekey_inbound_cipher()
        kind, length = struct.unpack(">BH", plain[:3])
        assert plain[3 + length:] == bytes(len(plain) - 3 - length)
        return kind, plain[3:3 + length]


def padme(length):
    """Nikitin et al., PoPETs 2019, section 4."""
    e = length.bit_length() - 1
    s = e.bit_length()
    mask = (1 << (e - s)) - 1
    return (length + mask) & ~mask


def padded(length):
    return min(max(256, padme(length)), MAX_PLAIN)


def plaintext(kind, body):
    plain = struct.pack(">BH", kind, len(body)) + body
    return plain + bytes(padded(len(plain)) - len(plain))


def cbor_uint(value):
    if value < 24:
        return bytes([value])
    if value < 1 << 8:
        return bytes([24, value])
    if value < 1 << 16:
        return b"\x19" + struct.pack(">H", value)
    if value < 1 << 32:
        return b"\x1a" + struct.pack(">L", value)
    return b"\x1b" + struct.pack(">Q", value)


def meta(message_id, time_ms, keepalive_ms=None):
    body = b"\x00\x50" + message_id + b"\x01\x00" + b"\x02" + cbor_uint(time_ms)
    if keepalive_ms is None:
        return b"\xa3" + body
    return b"\xa4" + body + b"\x07" + cbor_uint(keepalive_ms)


def total(count):
    return struct.pack(">Q", count)


# The vectors


def fixed(name, size=32):
    return hashlib.blake2b(name, key=b"AnonChat vectors", digest_size=size).digest()


def vectors():
    time_ms = 1_700_000_000_000
    responder_secret, initiator_secret = fixed(b"responder"), fixed(b"initiator")
    access = fixed(b"access")
    e1, e2 = fixed(b"initiator ephemeral"), fixed(b"responder ephemeral")
    kem_public, kem_secret = ML_KEM_768._keygen_internal(fixed(b"d"), fixed(b"z"))
    alice = Peer(True, initiator_secret, access, public_of(responder_secret), e1)
    bob = Peer(False, responder_secret, access, ephemeral=e2)

    message_1 = alice.write_hello(time_ms, kem_public)
    assert bob.read_hello(message_1) == (time_ms, kem_public)
    shared, ciphertext = ML_KEM_768._encaps_internal(kem_public, fixed(b"m"))
    message_2 = bob.write_reply(ciphertext)
    bob.shared(shared)
    assert alice.read_reply(message_2) == ciphertext
    alice.shared(ML_KEM_768.decaps(kem_secret, ciphertext))
    message_3 = alice.write_confirm()
    assert bob.read_confirm(message_3) == public_of(initiator_secret)
    handshake_hash = alice.noise.get_handshake_hash()
    assert handshake_hash == bob.noise.get_handshake_hash()

    message_id = bytes(range(16))
    long = bytes(i % 251 for i in range(1000))
    steps = [
        ("responder", "WELCOME", WELCOME, b"\xa1\x02" + cbor_uint(5000)),
        ("initiator", "META", META, meta(message_id, time_ms, 3000)),
        ("initiator", "DATA", DATA, b"hi\n"),
        ("initiator", "DATA, padded to Padmé", DATA, long),
        ("responder", "PAD", PAD, b""),
        ("initiator", "END", END, total(3 + len(long))),
        ("responder", "ACK", ACK, total(3 + len(long))),
        ("initiator", "DATA, the longest", DATA, bytes(65516)),
        ("responder", "REFUSE", REFUSE, b"\x04" + b"no files today"),
        ("initiator", "ABORT", ABORT, b"\x01"),
    ]
    records = []
    for sender, name, kind, body in steps:
        ours, theirs = (alice, bob) if sender == "initiator" else (bob, alice)
        record = ours.seal(kind, body)
        assert theirs.open(record) == (kind, body)
        # The longest one is named by its hash: 128 KiB of hexadecimal would tell nobody more.
        entry = {"from": sender, "name": name, "kind": kind, "body_len": len(body)}
        if len(body) < 2000:
            entry.update(body=body.hex(), record=record.hex())
        else:
            entry.update(body_is="zeros", record_len=len(record),
                         record_blake2b=hashlib.blake2b(record, digest_size=32).hexdigest())
        records.append(entry)
    while alice.sent < REKEY_AFTER:
        assert bob.open(alice.seal(PAD, b"")) == (PAD, b"")
    after = alice.seal(PAD, b"")
    assert bob.open(after) == (PAD, b"")
    return {
        "about": "made by stream.py; PROTOCOL.md, 3.7",
        "suite": SUITE.decode(), "prologue": PROLOGUE.decode(), "time_ms": time_ms,
        "responder_secret": responder_secret.hex(),
        "responder_public": public_of(responder_secret).hex(), "access": access.hex(),
        "initiator_secret": initiator_secret.hex(),
        "initiator_public": public_of(initiator_secret).hex(),
        "initiator_ephemeral_secret": e1.hex(), "initiator_ephemeral_public": public_of(e1).hex(),
        "responder_ephemeral_secret": e2.hex(), "mlkem_ek": kem_public.hex(),
        "mlkem_dk": kem_secret.hex(), "mlkem_ct": ciphertext.hex(), "mlkem_shared": shared.hex(),
        "message_1": message_1.hex(), "message_2": message_2.hex(), "message_3": message_3.hex(),
        "handshake_hash": handshake_hash.hex(), "records": records,
        "pads_of_initiator_until_rekey": REKEY_AFTER - sum(s[0] == "initiator" for s in steps),
        "first_pad_after_rekey": after.hex(),
        "padded_lengths": [[n, padded(n)] for n in
                           (3, 255, 256, 257, 511, 512, 513, 1000, 1003, 4096, 4097, 10000, 40000,
                            64000, 65000, 65518, 65519)],
    }


# The live peers


class Wire:
    """A socket from which exact numbers of bytes are read."""

    def __init__(self, connection):
        self.connection = connection
        connection.settimeout(25)

    def read(self, size):
        data = b""
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            if not piece:
                raise EOFError("the other side closed the connection")
            data += piece
        return data

    def record(self):
        head = self.read(2)
        return head + self.read(struct.unpack(">H", head)[0])

    def write(self, data):
        self.connection.sendall(data)


def say(**what):
    print(json.dumps(what), flush=True)


def now_ms():
    return int(time.time() * 1000)


def next_but_pads(wire, peer):
    while True:
        kind, body = peer.open(wire.record())
        if kind != PAD:
            return kind, body


def initiate(task):
    """Sends task["message"], one DATA record for each of task["pieces"] parts of it."""
    speak(Wire(socket.create_connection(("127.0.0.1", task["port"]))), task)


def speak(wire, task):
    """The same over a connection that is there."""
    peer = Peer(True, bytes.fromhex(task["secret"]), bytes.fromhex(task["access"]),
                bytes.fromhex(task["peer"]))
    kem_public, kem_secret = ML_KEM_768.keygen()
    wire.write(peer.write_hello(now_ms(), kem_public))
    ciphertext = peer.read_reply(wire.read(1248))
    peer.shared(ML_KEM_768.decaps(kem_secret, ciphertext))
    wire.write(peer.write_confirm())
    kind, body = next_but_pads(wire, peer)
    assert kind == WELCOME, kind
    say(step="welcome", body=body.hex())
    message = bytes.fromhex(task["message"])
    size = -(-len(message) // task["pieces"])
    wire.write(peer.seal(META, meta(os.urandom(16), now_ms())))
    for start in range(0, len(message), size):
        wire.write(peer.seal(DATA, message[start:start + size]))
    wire.write(peer.seal(END, total(len(message))))
    kind, body = next_but_pads(wire, peer)
    assert kind == ACK, kind
    say(step="acknowledged", total=struct.unpack(">Q", body)[0])


def respond(task):
    """Takes one message from whoever calls."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(25)
    say(step="listening", port=server.getsockname()[1])
    wire = Wire(server.accept()[0])
    peer = Peer(False, bytes.fromhex(task["secret"]), bytes.fromhex(task["access"]))
    time_ms, kem_public = peer.read_hello(wire.read(1248))
    assert abs(time_ms - now_ms()) < 300_000
    shared, ciphertext = ML_KEM_768.encaps(kem_public)
    wire.write(peer.write_reply(ciphertext))
    peer.shared(shared)
    caller = peer.read_confirm(wire.read(80))
    wire.write(peer.seal(WELCOME, b"\xa0"))
    message, kinds = b"", []
    while not kinds or kinds[-1] != END:
        kind, body = next_but_pads(wire, peer)
        kinds.append(kind)
        if kind == DATA:
            message += body
    assert kinds[0] == META and set(kinds[1:-1]) <= {DATA} and body == total(len(message))
    wire.write(peer.seal(ACK, body))
    digest = hashlib.blake2b(message, digest_size=32).hexdigest()
    say(step="received", caller=caller.hex(), records=len(kinds), total=len(message), blake2b=digest)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(json.dumps(vectors(), indent=1, ensure_ascii=False))
    else:
        {"initiate": initiate, "respond": respond}[sys.argv[1]](json.load(sys.stdin))
