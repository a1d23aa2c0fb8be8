#!/usr/bin/env python3
"""Computes keys.json from the text of PROTOCOL.md, "Keys", independently of this crate's code.

Needs PyNaCl (libsodium's argon2id, secretbox and X25519); BLAKE2b, base32 and base64 are Python's
own, and the CBOR is written out by hand.
"""
import base64, hashlib, json
from nacl import bindings

def H(n, key, data):
    return hashlib.blake2b(data, key=key, digest_size=n).digest()

def groups(raw):
    fives = [raw[i:i + 5] for i in range(0, 40, 5)]
    return " ".join("%05d" % (int.from_bytes(f, "big") % 100000) for f in fives)

def fingerprint_raw(pk):
    return H(40, b"AnonChat v1 fingerprint", pk)

def party_raw(pk, access):
    return H(40, b"AnonChat v1 party", pk + access)

def safety(a, b):
    return groups(H(40, b"AnonChat v1 safety", min(a, b) + max(a, b)))

def argon2id(password, salt, ops, mem_kib):
    return bindings.crypto_pwhash_alg(32, password, salt, ops, mem_kib * 1024,
                                      bindings.crypto_pwhash_ALG_ARGON2ID13)

def b64(data):
    return base64.b64encode(data).decode()

def text(s):
    raw = s.encode()
    return (bytes([0x60 + len(raw)]) if len(raw) < 24 else bytes([0x78, len(raw)])) + raw

def array(items):
    return bytes([0x80 + len(items)]) + b"".join(map(text, items))

def line(kind, public, access, hints):
    body = bytes([1, kind]) + public + access + hints
    whole = body + H(16, b"AnonChat v1 line", body)[:4]
    return "ac1" + base64.b32encode(whole).decode().lower().rstrip("=")

sk = [bytes(range(i, i + 32)) for i in (1, 65, 129)]
pk = [bindings.crypto_scalarmult_base(s) for s in sk]
access = [bytes([b]) * 32 for b in (0xa1, 0xb2, 0xc3)]
party = [party_raw(p, a) for p, a in zip(pk, access)]
salt, nonce = bytes(range(16)), bytes(range(100, 124))
ops, mem_kib = 1, 64

def sealed(fmt, public, acc, secret, passphrase):
    header = fmt + bytes([1]) + public + acc + ops.to_bytes(4, "big") + mem_kib.to_bytes(4, "big") + salt
    key = H(32, argon2id(passphrase, salt, ops, mem_kib), b"AnonChat v1 keyfile" + header)
    return bindings.crypto_secretbox(secret, nonce, key)

protection = f'''
[protection]
kdf = "argon2id13"
ops = {ops}
mem_kib = {mem_kib}
salt = "{b64(salt)}"
nonce = "{b64(nonce)}"
'''
def head(kind, i):
    return f'format = "anonchat-{kind}"\nversion = 1\npublic = "{b64(pk[i])}"\naccess = "{b64(access[i])}"\n'

passphrase = "correct hörse"
g = bytes(range(200, 232))
group_name, password = "team", "cavity-walnut-plunge-órbit"
group_salt = H(16, b"AnonChat v1 group salt", group_name.encode())
addresses, relay_addresses = ["10.0.0.5:1234", "[2001:db8::5]:1234"], ["relay.example.org:4000"]
hints = bytes([0xa3, 0]) + text("alice") + bytes([1]) + array(addresses) + bytes([2, 0xa3]) \
    + bytes([0, 0x58, 32]) + pk[2] + bytes([1, 0x58, 32]) + access[2] + bytes([2]) + array(relay_addresses)
relay_hints = bytes([0xa1, 1]) + array(relay_addresses)

vectors = {
    "identities": [
        {"secret": s.hex(), "public": p.hex(), "access": a.hex(),
         "fingerprint": groups(fingerprint_raw(p)), "party": groups(r)}
        for s, p, a, r in zip(sk, pk, access, party)],
    "safety_number_of_0_and_1": safety(party[0], party[1]),
    "safety_number_of_0_and_1_with_the_access_of_2": safety(party[0], party_raw(pk[1], access[2])),
    "group": {
        "g": g.hex(),
        "secret": (gsk := H(32, g, b"AnonChat v1 group key")).hex(),
        "public": bindings.crypto_scalarmult_base(gsk).hex(),
        "access": H(32, g, b"AnonChat v1 group access").hex()},
    "group_from_password": {
        "name": group_name, "password": password, "salt": group_salt.hex(),
        "g": argon2id(password.encode(), group_salt, 4, 256 * 1024).hex()},
    "files": {
        "secret": {"text": head("secret", 0) + f'name = "alice"\nsecret = "{b64(sk[0])}"\n'},
        "protected_secret": {
            "passphrase": passphrase,
            "text": head("secret", 0) + 'secret = "'
                + b64(sealed(b"anonchat-secret", pk[0], access[0], sk[0], passphrase.encode()))
                + '"\n' + protection},
        "protected_group": {
            "passphrase": passphrase,
            "text": 'format = "anonchat-group"\nversion = 1\ngroup = "'
                + b64(sealed(b"anonchat-group", b"", b"", g, passphrase.encode())) + '"\n' + protection},
        "public": {
            "line": line(0, pk[0], access[0], hints),
            "text": head("public", 0) + 'name = "alice"\naddress = ["10.0.0.5:1234", "[2001:db8::5]:1234"]\n'
                + f'\n[relay]\npublic = "{b64(pk[2])}"\naccess = "{b64(access[2])}"\naddress = ["relay.example.org:4000"]\n'},
        "public_with_named_relay": {
            "line": line(0, pk[1], access[1], bytes([0xa1, 2]) + text("home")),
            "text": head("public", 1) + 'relay = "home"\n'},
        "public_without_hints": {
            "line": line(0, pk[1], access[1], bytes([0xa0])),
            "text": head("public", 1)},
        "relay": {
            "line": line(1, pk[2], access[2], relay_hints),
            "text": head("relay", 2) + 'address = ["relay.example.org:4000"]\n'},
    },
}
print(json.dumps(vectors, indent=2, ensure_ascii=False))
