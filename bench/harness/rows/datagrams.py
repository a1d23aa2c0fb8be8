"""Messages as datagrams, each a sealed box of its own, beside what sealing and opening alone allow."""

import contextlib
import json
import os
import subprocess
import time

from ..build import bench
from ..peers import Ours
from ..scene import BIN, ROOT, ready, within_patience
from ..table import Row, Target

# What one datagram holds of a message, in bytes (PROTOCOL.md, 4.1).
FRAGMENT = 998
# Messages of a long input have so many datagrams each.
FRAGMENTS = 64


@contextlib.contextmanager
def on_core(scene, number):
    """What is started meanwhile stays on this core of ours, or on the only one."""
    cores = sorted(os.sched_getaffinity(0))
    scene.prefix = ["taskset", "-c", str(cores[number % len(cores)])]
    try:
        yield
    finally:
        scene.prefix = []


class Datagrams(Ours):
    """`ac-send -u` of one long input, until all of it is acknowledged."""

    needs = [*Ours.needs, "taskset"]

    @within_patience
    def rate(self, scene, count):
        payload = scene.folder / "payload"
        payload.write_bytes(os.urandom(count * FRAGMENT))
        with on_core(scene, 0):
            listener = scene.start([BIN / "ac-listen", "-u", "-1", "127.0.0.1:0"], env=scene.home("bob"),
                                   stderr=subprocess.PIPE)
        words = [BIN / "ac-send", "-u", f"bob@{ready(listener)}"]
        with open(payload, "rb") as file, on_core(scene, 1):
            began = time.monotonic()
            sender = scene.start(words, env=scene.home("alice"), stdin=file)
        code = sender.wait()
        took = time.monotonic() - began
        scene.close()
        if code != 0:
            raise RuntimeError(f"{self.name}: the sender ended with {code}")
        return count / took


class SealAndOpen(Ours):
    """One seal and one open after the other, and nothing else."""

    name = "one seal and one open, in turns"
    needs = ["taskset"]

    @within_patience
    def rate(self, scene, _):
        with on_core(scene, 1):
            program = scene.start([bench("micro"), "--bench"], stdout=subprocess.PIPE, cwd=ROOT,
                                  env={**os.environ, "AC_BENCH_JSON": "1"})
        cost = json.loads(program.stdout.read())
        scene.close()
        return 1e6 / (cost["seal"] + cost["open"])


def datagrams(run):
    """A long input over UDP, one core a side."""
    count = FRAGMENTS * (16 if run.short else 500)
    peers = run.there([Datagrams, SealAndOpen])
    values = run.interleaved("datagrams", run.rounds, peers, lambda p: p.rate(run.scene, count))
    run.table.add(Row(
        "1 KiB datagrams, sealed and acknowledged", "datagrams/s", values,
        f"`ac-send -u` of {count * FRAGMENT >> 20} MiB to `ac-listen -u`, each pinned to one core; timed from the "
        f"sender's start until all of it is acknowledged. A datagram of 1200 bytes carries {FRAGMENT}. Beside it the "
        "rate at which one core seals a datagram and opens one, in turns, by `benches/micro.rs`: no more would be "
        "done if the two sides never worked at the same time.",
        targets={SealAndOpen.name: Target(0.7)}))
