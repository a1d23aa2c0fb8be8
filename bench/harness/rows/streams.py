"""Streams of one large file: how fast, and in how much memory."""

import contextlib
import re
import subprocess
import time
from pathlib import Path

from ..peers import Nc, Ncat, NcatSsl, Ours, Plain, Socat, SocatSsl, Spiped, Ssh, Unsealed
from ..scene import within_patience
from ..table import Row, Target

MIB = 1 << 20


@within_patience
def stream(scene, peer, piped=False, watched=False):
    """Seconds from the sender's start until everything is at the other end; watched, the most resident
    memory of sender and listener instead, in bytes."""
    reader = None
    if piped:
        reader = scene.start(["cat"], stdin=subprocess.PIPE)
        child, at = peer.listen(scene, reader.stdin)
        reader.stdin.close()
    else:
        child, at = peer.listen(scene, subprocess.DEVNULL)
    words, env = peer.send(scene, at)
    began = time.monotonic()
    if piped:
        feeder = scene.start(["cat", scene.input], stdout=subprocess.PIPE)
        sender = scene.start(words, env=env, stdin=feeder.stdout)
        feeder.stdout.close()
    else:
        with open(scene.input, "rb") as file:
            sender = scene.start(words, env=env, stdin=file)
    peaks = peak_memory(sender, child) if watched else None
    sender.wait()
    if not isinstance(peer, Ssh):
        child.wait()
    if reader:
        reader.wait()
    took = time.monotonic() - began
    scene.close()
    if sender.returncode != 0:
        raise RuntimeError(f"{peer.name}: the sender ended with {sender.returncode}")
    return peaks if watched else took


def peak_memory(*children):
    """The most resident memory that each comes to until the first ends, in bytes."""
    peaks = [0] * len(children)
    while children[0].poll() is None:
        for number, child in enumerate(children):
            with contextlib.suppress(OSError, AttributeError):
                status = Path(f"/proc/{child.pid}/status").read_text()
                peaks[number] = max(peaks[number], int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) * 1024)
        time.sleep(0.002)
    return peaks


def rate(run, peer, piped=False):
    return run.scene.size / stream(run.scene, peer, piped) / MIB


def size(run):
    return f"{run.scene.size >> 20} MiB"


def files(run):
    """A large file by TCP."""
    peers = run.there([Ours, Unsealed, Plain, Nc, Ncat, NcatSsl, Socat, SocatSsl, Spiped, Ssh])
    values = run.interleaved("file to /dev/null", run.rounds, peers, lambda p: rate(run, p))
    run.table.add(Row(
        f"{size(run)}: file, TCP, /dev/null", "MiB/s", values,
        "A file in memory is the sender's stdin, `/dev/null` the listener's stdout; timed from the "
        "sender's start until both have ended. Sealing left out: the same programs, built so that a record "
        "is the plaintext before a tag of zeros. `socat OPENSSL` with `-b 65536`.",
        targets={"socat OPENSSL": Target(2.0), "nc": Target(1.5), "socat -b 262144": Target(1.2),
                 Unsealed.name: Target(0.9)}))


def pipes(run):
    """The same between two pipes."""
    peers = run.there([Ours, Nc, Socat, SocatSsl])
    values = run.interleaved("pipe to pipe", run.rounds, peers, lambda p: rate(run, p, piped=True))
    run.table.add(Row(
        f"{size(run)}: cat, TCP, cat", "MiB/s", values,
        "`cat file |` before the sender, `| cat >/dev/null` behind the listener.",
        targets={"nc": Target(1.2)}))


def memory(run):
    """What both ends need while it goes on."""
    peers = run.there([Ours, Nc, Socat, SocatSsl])
    peaks = {peer.name: [] for peer in peers}
    for piped in (False, True):
        run.tell("memory, " + ("pipe to pipe" if piped else "file to /dev/null"))
        for peer in peers:
            peaks[peer.name].append(stream(run.scene, peer, piped, watched=True))
    for number, end in enumerate(("sender", "listener")):
        values = {name: [both[number] / MIB for both in seen] for name, seen in peaks.items()}
        run.table.add(Row(
            f"{size(run)}: most memory of the {end}", "MiB", values,
            "Most resident memory (`VmHWM`), from file to `/dev/null` and from pipe to pipe.",
            better="less", most=16))
