"""Work in growing amounts: each a function of a `Run` that measures one `Axis`."""

import os
import shutil
import statistics
import subprocess
import time

from .growth import Axis
from .peers import Nc, Ours
from .scene import BIN, free_port, listening, ready, until, within_patience

# Rounds of a step end when it has taken so long, in seconds: there is one at least.
STEP = 40


def grow(run, axis, peers, counts, prepare, measure):
    """`measure` of each peer at each count, in turns, with what `prepare` makes of the count."""
    for count in counts:
        prepared = prepare(count)
        values = {peer.name: [] for peer in peers}
        began = time.monotonic()
        for number in range(run.rounds):
            if number and time.monotonic() - began > STEP:
                break
            run.tell(f"{axis.name}: {axis.shown(count)}, round {number + 1} of {run.rounds}")
            first = number % len(peers)
            for peer in peers[first:] + peers[:first]:
                values[peer.name].append(measure(peer, count, prepared))
        for name, measured in values.items():
            axis.add(name, count, measured)
    return axis


def ended(name, child):
    if child.wait() != 0:
        raise RuntimeError(f"{name}: a program ended with {child.returncode}")


def size_shown(count):
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:g} {unit}"
    return f"{count} B"


class ByRelay(Ours):
    """Both by a relay that goes on from one measurement to the next."""

    name = "AnonChat by a relay"

    def relay(self, scene):
        if not hasattr(self, "at"):
            file = scene.folder / "relay.pub"
            with open(file, "wb") as out:
                self.process = subprocess.Popen(
                    [BIN / "ac-relay", "127.0.0.1:0"], env=scene.home("relay"), stdin=subprocess.DEVNULL,
                    stdout=out, stderr=subprocess.PIPE)
            self.at = f"home@{ready(self.process)}"
            for name in ("alice", "bob"):
                scene.run([BIN / "ac-keygen", "--import", file, "--as", "home"], env=scene.home(name))
        return self.at

    def listen(self, scene, out):
        child = scene.start([BIN / "ac-listen", "-1", "--via", self.relay(scene)], env=scene.home("bob"),
                            stdout=out, stderr=subprocess.PIPE)
        return child, ready(child, rb"listening at (\S+)")

    def send(self, scene, _):
        return [BIN / "ac-send", "--via", self.at, "bob"], scene.home("alice")

    def close(self):
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()


class ByDatagrams(Ours):
    name, options = "AnonChat -u", ["-u"]

    def send(self, scene, at):
        return [BIN / "ac-send", "-u", f"bob@{at}"], scene.home("alice")


def timed(scene, peer, words, env, file, listeners):
    """Seconds from the start of the sender `words`, whose stdin is `file`, until it and `listeners` have ended."""
    with open(file, "rb") as opened:
        began = time.monotonic()
        ended(peer.name, scene.start(words, env=env, stdin=opened))
        for child in listeners:
            child.wait()
        took = time.monotonic() - began
    scene.close()
    return took


@within_patience
def delivered(scene, peer, file):
    """Seconds from the sender's start to its end, and for a peer that hears of no delivery to the listener's."""
    child, at = peer.listen(scene, subprocess.DEVNULL)
    words, env = peer.send(scene, at)
    return timed(scene, peer, words, env, file, [child] if isinstance(peer, Nc) else [])


def size(run):
    """One message of growing size."""
    axis = Axis(
        "size", "Time of one message against its size", "byte",
        "A file in memory is the sender's stdin, `/dev/null` the listener's stdout; timed from the sender's start "
        "until everything is acknowledged, for `nc` until its listener has ended. The first steps are the start of a "
        "program and a handshake.", size_shown)
    most = run.most or 1 << (12 if run.short else 32)
    steps = [16 ** power for power in range(9) if 16 ** power <= most]

    def prepare(count):
        file = run.scene.folder / "input"
        block = os.urandom(min(count, 1 << 20))
        with open(file, "wb") as out:
            for _ in range(count // len(block)):
                out.write(block)
        return file

    def measure(peer, _, file):
        return delivered(run.scene, peer, file)

    relayed = ByRelay()
    try:
        for peers, limit in (([Ours(), *run.there([Nc]), relayed], most), ([ByDatagrams()], 16 << 20)):
            grow(run, axis, peers, [step for step in steps if step <= limit], prepare, measure)
    finally:
        relayed.close()
    return axis


# What is charted, and the figure of `benches/clients.rs` for it: microseconds for one client.
CLIENT_LINES = {
    "opened: processor of the listener": "us of processor to open",
    "a message of each, one after the other": "us for a message singly",
    "the same: processor of the listener": "us of processor for it",
    "a message of each, all at once": "us for a message all at once",
    "all at once: processor of the listener": "us of processor for that",
}


def clients(run):
    """Sessions that are open at once."""
    axis = Axis(
        "clients", "Time for all clients against their number", "client",
        "Sessions that are all open at one listener, each of another contact, by `benches/clients.rs`. Opening is the "
        "listener's processor time: it lets no more than 1,000 callers a second in. Then each says a short message, "
        "one after the other, each acknowledged before the next; and all at once. `nc` hears one client, `ncat` 1,024, "
        "`socat` takes a process for each, so that there is no peer here. What all say at once costs more with 10,000 "
        "because what a session needs, in the listener and in the kernel, is in no cache any more when its turn comes: "
        "profiles of 1,000 and of 10,000 show the same functions in nearly the same shares, each slower.")
    most = run.most or (10 if run.short else 10_000)
    counts = [10 ** power for power in range(6) if 10 ** power <= most]
    sizes = {"CLIENTS": ",".join(map(str, counts)), "ROUNDS": min(run.rounds, 3)}
    if run.short:
        sizes["MESSAGES"] = 10
    resident = []
    for figure in run.figures("clients", sizes):
        count = figure["clients"]
        for line, name in CLIENT_LINES.items():
            axis.add(line, count, [value * count / 1e6 for value in figure[name]])
        resident.append(f"{statistics.median(figure['bytes resident']):.0f} bytes of {count}")
    axis.about += f" Resident memory of the listener for each: {', '.join(resident)}."
    return axis


# The same of those who send files.
SENDER_LINES = {
    "a file of each, one after the other": "us for a message singly",
    "the same: processor of the listener": "us of processor for it",
    "a file of each, all at once": "us for a message all at once",
    "all at once: processor of the listener": "us of processor for that",
}


def senders(run):
    """Sessions that are open at once, and send files."""
    length = 64 << 10
    axis = Axis(
        "senders", "Time for a file of each sender against their number", "sender",
        f"Sessions that are all open at one `ac-listen -d`, each of another contact, by `benches/clients.rs`. Each "
        f"sends a file of {size_shown(length)}, one after the other, each acknowledged before the next, so that all "
        "but one are idle; and all at once. The files land on a disk in memory, each written by its session's own "
        "thread.")
    most = run.most or (10 if run.short else 1000)
    counts = [count for count in (1, 10, 100, 1000) if count <= most]
    sizes = {"CLIENTS": ",".join(map(str, counts)), "ROUNDS": min(run.rounds, 3), "KIND": "files",
             "BYTES": length, "MESSAGES": 10 if run.short else 1000}
    for figure in run.figures("clients", sizes, run.scene.folder):
        count = figure["clients"]
        for line, name in SENDER_LINES.items():
            axis.add(line, count, [value * count / 1e6 for value in figure[name]])
    return axis


class Separately:
    """One ac-listen for each recipient."""

    name = "AnonChat"

    def listen(self, scene):
        child = scene.start([BIN / "ac-listen", "-1", "127.0.0.1:0"], env=scene.home("bob"), stderr=subprocess.PIPE)
        return child, ready(child)

    def send(self, scene, places):
        return [BIN / "ac-send", "-q", *(f"bob@{at}" for at in places)], scene.home("alice")


class Tee:
    name, needs = "tee into nc for each", ["nc", "bash", "tee"]

    def listen(self, scene):
        return Nc().listen(scene, subprocess.DEVNULL)

    def send(self, _, places):
        return ["bash", "-c", f"tee {' '.join(f'>(nc -N 127.0.0.1 {at})' for at in places)} >/dev/null"], None


@within_patience
def spread(scene, peer, count, file):
    """Seconds from the sender's start until all listeners have ended."""
    listeners = [peer.listen(scene) for _ in range(count)]
    words, env = peer.send(scene, [at for _, at in listeners])
    return timed(scene, peer, words, env, file, [child for child, _ in listeners])


def recipients(run):
    """One message to growing numbers of recipients."""
    axis = Axis(
        "recipients", "Time of one message against its recipients", "recipient",
        "One `ac-send` with as many destinations, each an `ac-listen -1` of its own, timed from its start until all "
        "have ended; beside it `tee` into an `nc` for each. A file in memory is the input, `/dev/null` the output. "
        "That as many programs end is part of it.")
    most = run.most or (3 if run.short else 100)
    counts = [count for count in (1, 3, 10, 30, 100) if count <= most]
    peers = [Separately(), *run.there([Tee])]
    for length in (3, (64 << 10) if run.short else (16 << 20)):
        file = run.scene.folder / "input"
        file.write_bytes(os.urandom(length))
        part = Axis(axis.name, "", "", "", lambda count, length=length: f"{size_shown(length)} to {count}")
        grow(run, part, peers, counts, lambda _: file, lambda peer, count, file: spread(run.scene, peer, count, file))
        for peer in peers:
            axis.lines[f"{peer.name}, {size_shown(length)}"] = part.lines[peer.name]
    return axis


class Folder:
    name = "AnonChat -f"

    def move(self, scene, source, target):
        port = free_port()
        listener = scene.start([BIN / "ac-listen", "-q", "-1", "-d", target, f"127.0.0.1:{port}"],
                               env=scene.home("bob"))
        until(lambda: listening(port))
        words = [BIN / "ac-send", "-q", "-f", source, f"bob@127.0.0.1:{port}"]
        began = time.monotonic()
        sender = scene.start(words, env=scene.home("alice"))
        ended(self.name, sender)
        ended(self.name, listener)
        return time.monotonic() - began


class Tar:
    name, needs = "tar, nc, nc, tar", ["tar", "nc"]

    def move(self, scene, source, target):
        port = free_port()
        listener = scene.start(["nc", "-l", "127.0.0.1", port], stdout=subprocess.PIPE)
        unpacker = scene.start(["tar", "-x", "-C", target], stdin=listener.stdout)
        until(lambda: listening(port))
        began = time.monotonic()
        packer = scene.start(["tar", "-c", "-C", source, "."], stdout=subprocess.PIPE)
        scene.start(["nc", "-N", "127.0.0.1", port], stdin=packer.stdout)
        packer.stdout.close()
        ended(self.name, packer)
        ended(self.name, unpacker)
        return time.monotonic() - began


@within_patience
def moved(scene, peer, count, source):
    """Seconds until `count` files are there."""
    target = scene.folder / "target"
    target.mkdir()
    took = peer.move(scene, source, target)
    scene.close()
    came = sum(len(files) for _, _, files in os.walk(target))
    shutil.rmtree(target)
    if came != count:
        raise RuntimeError(f"{peer.name}: {came} files came of {count}")
    return took


def files(run):
    """A folder with growing numbers of small files."""
    axis = Axis(
        "files", "Time of a folder against its files", "file",
        "Files of 100 bytes in one folder, on a disk in memory: `ac-send -f` to `ac-listen -d`, and beside it "
        "`tar -c | nc` to `nc | tar -x`; timed from the sender's start until both ends have ended. tar checks nothing, "
        "resumes nothing, and acknowledges nothing.")
    most = run.most or (10 if run.short else 100_000)
    counts = [10 ** power for power in range(6) if 10 ** power <= most]

    def prepare(count):
        source = run.scene.folder / "source"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for number in range(count):
            (source / f"file{number:06}").write_bytes(b"x" * 100)
        return source

    return grow(run, axis, [Folder(), *run.there([Tar])], counts, prepare,
                lambda peer, count, source: moved(run.scene, peer, count, source))


# Name, as for --only, to what measures it, in the order of the report.
AXES = {"size": size, "clients": clients, "senders": senders, "recipients": recipients, "files": files}
