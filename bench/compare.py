#!/usr/bin/env python3
"""Runs AnonChat and its peers side by side, and writes what came of it as a table and a chart.

    bench/compare.py [--short] [--out DIR] [--only NAME]

Every measurement of ours stands beside those of the others in the same run, in turns, and what counts
is the ratio of the medians: machines are noisy. --short runs every path with little data and looks at
no time: for CI. A peer that is not installed is passed over, and the table says so.
"""

import argparse
import contextlib
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# One measurement may take this long, in seconds.
PATIENCE = 300
BIN = Path(os.environ.get("AC_BIN", ROOT / "target" / "release"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(port):
    """Whether somebody listens, without a connection that would be counted."""
    want = f":{port:04X} "
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    lines = (line for table in tables if table.exists() for line in table.read_text().splitlines())
    return any(want in line and line.split()[3] == "0A" for line in lines)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("a program was not ready")
        time.sleep(0.002)


class Scene:
    """A temporary folder with keys, certificates and the input."""

    def __init__(self, folder, size):
        self.folder = Path(folder)
        self.input = self.folder / "input"
        with open(self.input, "wb") as file:
            block = os.urandom(1 << 20)
            for _ in range(max(1, size >> 20)):
                file.write(block)
        self.size = self.input.stat().st_size
        self.children = []
        self.make_keys()

    def home(self, name):
        return {**os.environ, "AC_HOME": str(self.folder / name)}

    def make_keys(self):
        for name in ("alice", "bob"):
            self.run([BIN / "ac-keygen"], env=self.home(name))
        for mine, theirs in (("alice", "bob"), ("bob", "alice")):
            file = self.folder / theirs / "identity.pub"
            self.run([BIN / "ac-keygen", "--import", file, "--as", theirs], env=self.home(mine))
        self.pem = self.folder / "pem"
        if shutil.which("openssl"):
            key, cert = self.folder / "key", self.folder / "cert"
            self.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", cert])
            self.pem.write_bytes(key.read_bytes() + cert.read_bytes())
        self.secret = self.folder / "secret"
        self.secret.write_bytes(os.urandom(32))

    def run(self, words, **more):
        subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **more)

    def start(self, words, **more):
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL,
                "stderr": subprocess.DEVNULL, **more}
        child = subprocess.Popen([str(w) for w in words], **more)
        self.children.append(child)
        return child

    def stop(self, child):
        if child.poll() is None:
            child.kill()
        child.wait()
        if child in self.children:
            self.children.remove(child)

    def close(self):
        for child in list(self.children):
            self.stop(child)


def ready(child):
    """Where one of our listeners listens."""
    for line in child.stderr:
        found = re.search(rb"listening on (\S+)", line)
        if found:
            return found.group(1).decode()
    raise RuntimeError("it ended before it was ready")


class Ours:
    name = "AnonChat"
    needs = [BIN / "ac-send"]

    def listen(self, scene, out):
        child = scene.start([BIN / "ac-listen", "-1", "127.0.0.1:0"], env=scene.home("bob"),
                            stdout=out, stderr=subprocess.PIPE)
        return child, ready(child)

    def send(self, scene, at):
        return [BIN / "ac-send", f"bob@{at}"], scene.home("alice")


class Peer:
    """A program whose listener is told a port, and ends after one connection."""

    needs = []

    def listen(self, scene, out):
        port = free_port()
        child = scene.start(self.listener(scene, port), stdout=out)
        until(lambda: listening(port))
        return child, port

    def send(self, scene, at):
        return self.sender(scene, at), None


class Nc(Peer):
    name, needs = "nc", ["nc"]

    def listener(self, _, port):
        return ["nc", "-l", "127.0.0.1", port]

    def sender(self, _, port):
        return ["nc", "-N", "127.0.0.1", port]


class Ncat(Peer):
    name, needs = "ncat", ["ncat"]

    def listener(self, _, port):
        return ["ncat", "-l", "127.0.0.1", port]

    def sender(self, _, port):
        return ["ncat", "--send-only", "127.0.0.1", port]


class NcatSsl(Peer):
    name, needs = "ncat --ssl", ["ncat", "openssl"]

    def listener(self, scene, port):
        return ["ncat", "--ssl", "--ssl-key", scene.folder / "key", "--ssl-cert", scene.folder / "cert",
                "-l", "127.0.0.1", port]

    def sender(self, _, port):
        return ["ncat", "--ssl", "--send-only", "127.0.0.1", port]


class Socat(Peer):
    name, needs = "socat -b 262144", ["socat"]

    def listener(self, _, port):
        return ["socat", "-u", "-b", "262144", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr", "STDOUT"]

    def sender(self, _, port):
        return ["socat", "-u", "-b", "262144", "STDIN", f"TCP:127.0.0.1:{port}"]


class SocatSsl(Peer):
    name, needs = "socat OPENSSL", ["socat", "openssl"]

    def listener(self, scene, port):
        return ["socat", "-u", "-b", "65536",
                f"OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,cert={scene.pem},verify=0", "STDOUT"]

    def sender(self, _, port):
        return ["socat", "-u", "-b", "65536", "STDIN", f"OPENSSL:127.0.0.1:{port},verify=0"]


class Spiped(Peer):
    """Two spiped between two nc."""

    name, needs = "spiped", ["spiped", "nc"]

    def listen(self, scene, out):
        inner, crypt, outer = free_port(), free_port(), free_port()
        child = scene.start(["nc", "-l", "127.0.0.1", inner], stdout=out)
        middle = ["-F", "-k", scene.secret]
        scene.start(["spiped", "-d", "-s", f"[127.0.0.1]:{crypt}", "-t", f"[127.0.0.1]:{inner}", *middle])
        scene.start(["spiped", "-e", "-s", f"[127.0.0.1]:{outer}", "-t", f"[127.0.0.1]:{crypt}", *middle])
        for port in (inner, crypt, outer):
            until(lambda port=port: listening(port))
        return child, outer

    def sender(self, _, port):
        return ["nc", "-N", "127.0.0.1", port]


class Ssh(Peer):
    """ssh HOST 'cat >/dev/null' to a server of its own."""

    name, needs = "ssh", ["ssh", "/usr/sbin/sshd", "ssh-keygen"]

    def listen(self, scene, out):
        port, folder = free_port(), scene.folder / "ssh"
        if not folder.exists():
            folder.mkdir(mode=0o700)
            for key in ("host", "user"):
                scene.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key])
            (folder / "allowed").write_bytes((folder / "user.pub").read_bytes())
        Path("/run/sshd").mkdir(exist_ok=True)
        child = scene.start(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", port, "-h", folder / "host",
                             "-o", "ListenAddress=127.0.0.1", "-o", "StrictModes=no", "-o", "PidFile=none",
                             "-o", "PermitRootLogin=yes", "-o", f"AuthorizedKeysFile={folder}/allowed"])
        until(lambda: listening(port))
        self.wanted = "cat >/dev/null" if out == subprocess.DEVNULL else "cat"
        return child, port

    def sender(self, scene, port):
        folder = scene.folder / "ssh"
        return ["ssh", "-q", "-F", "none", "-p", port, "-i", folder / "user", "-o", "StrictHostKeyChecking=no",
                "-o", "UserKnownHostsFile=/dev/null", "127.0.0.1", self.wanted]


def is_there(peer):
    # sshd wants its folder in /run, and to be root.
    if isinstance(peer, Ssh) and os.geteuid() != 0:
        return False
    return all(Path(need).exists() if "/" in str(need) else shutil.which(need) for need in peer.needs)


def within_patience(measure):
    """Ends the run if one measurement hangs. wait(timeout=...) of a child would look only now and then,
    after 0.5, 1.5, 3.5, 7.5 ms and so on, and that is what would be measured."""

    def measured(*args, **more):
        signal.alarm(PATIENCE)
        try:
            return measure(*args, **more)
        finally:
            signal.alarm(0)

    return measured


def out_of_patience(*_):
    raise TimeoutError(f"a measurement took over {PATIENCE} s")


@within_patience
def stream(scene, peer, piped=False, watched=False):
    """Seconds from the sender's start until everything is at the other end; watched, its memory."""
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
    peak = peak_memory(sender) if watched else sender.wait()
    if not isinstance(peer, Ssh):
        child.wait()
    if reader:
        reader.wait()
    took = time.monotonic() - began
    scene.close()
    if sender.returncode != 0:
        raise RuntimeError(f"{peer.name}: the sender ended with {sender.returncode}")
    return peak if watched else took


def peak_memory(child):
    """The most resident memory that a child comes to until it ends, in bytes."""
    peak = 0
    while child.poll() is None:
        with contextlib.suppress(OSError, AttributeError):
            status = Path(f"/proc/{child.pid}/status").read_text()
            peak = max(peak, int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) * 1024)
        time.sleep(0.002)
    return peak


@within_patience
def seconds_of_one_shot(scene, peer):
    child, at = peer.listen(scene, subprocess.DEVNULL)
    words, env = peer.send(scene, at)
    began = time.monotonic()
    sender = scene.start(words, env=env, stdin=subprocess.PIPE)
    sender.stdin.write(b"hi\n")
    sender.stdin.close()
    sender.wait()
    took = time.monotonic() - began
    scene.stop(child)
    scene.close()
    return took


class Table:
    """What was measured: rows of medians with their spread, and ratios."""

    def __init__(self):
        self.parts = []

    def add(self, title, unit, figures, better="more"):
        """`figures`: name to values; the first is ours."""
        self.parts.append((title, unit, figures, better))

    def rows(self):
        for title, unit, figures, better in self.parts:
            ours = statistics.median(next(iter(figures.values())))
            yield f"\n### {title}\n\n| | {unit}, median (least to most) | ours beside it |\n| --- | --- | --- |"
            for name, values in figures.items():
                middle = statistics.median(values)
                ratio = ours / middle if better == "more" else middle / ours
                spread = f"{digits(middle)} ({digits(min(values))} to {digits(max(values))})"
                yield f"| {name} | {spread} | {ratio:.2f} × |"

    def chart(self):
        """Bars, each as long as its median beside the longest of its part."""
        bar, gap, left, width = 18, 6, 150, 420
        body, y = [], 24
        for title, unit, figures, _ in self.parts:
            body.append(f'<text x="8" y="{y}" class="t">{escape(title)} ({escape(unit)})</text>')
            y += 10
            middles = {name: statistics.median(values) for name, values in figures.items()}
            longest = max(middles.values()) or 1
            for number, (name, value) in enumerate(middles.items()):
                length = max(1, round(width * value / longest))
                kind = "o" if number == 0 else "p"
                body.append(f'<text x="{left - 8}" y="{y + 13}" class="n">{escape(name)}</text>'
                            f'<rect x="{left}" y="{y}" width="{length}" height="{bar}" class="{kind}"/>'
                            f'<text x="{left + length + 6}" y="{y + 13}">{digits(value)}</text>')
                y += bar + gap
            y += 26
        style = ("text{font:12px sans-serif;fill:#333}.t{font-weight:bold}.n{text-anchor:end}"
                 ".o{fill:#2a6f97}.p{fill:#bbb}rect.bg{fill:#fff}")
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{y}">'
                f'<style>{style}</style><rect class="bg" width="100%" height="100%"/>{"".join(body)}</svg>\n')


def digits(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def interleaved(rounds, peers, measure):
    """`measure` of each peer, in turns."""
    values = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            values[peer.name].append(measure(peer))
    return values


def streams(scene, table, rounds, missing):
    kinds = [Ours, Nc, Ncat, NcatSsl, Socat, SocatSsl, Spiped, Ssh]
    peers = [kind() for kind in kinds]
    missing.update(peer.name for peer in peers if not is_there(peer))
    peers = [peer for peer in peers if is_there(peer)]

    def rate(peer, piped):
        return scene.size / stream(scene, peer, piped) / (1 << 20)

    size = f"{scene.size >> 20} MiB"
    table.add(f"{size}: file, TCP, /dev/null", "MiB/s", interleaved(rounds, peers, lambda p: rate(p, False)))
    piped = [peer for peer in peers if peer.name in ("AnonChat", "nc", "socat -b 262144", "socat OPENSSL")]
    table.add(f"{size}: cat, TCP, cat", "MiB/s", interleaved(rounds, piped, lambda p: rate(p, True)))
    peak = interleaved(1, piped, lambda p: stream(scene, p, watched=True) / (1 << 20))
    table.add("Most memory of the sender", "MiB", peak, "less")


def one_shots(scene, table, rounds):
    peers = [kind() for kind in (Ours, Nc, Ncat, NcatSsl, Socat, SocatSsl, Ssh)]
    peers = [peer for peer in peers if is_there(peer)]
    values = interleaved(rounds * 3, peers, lambda p: seconds_of_one_shot(scene, p) * 1e3)
    table.add("echo hi, until the sender has ended", "ms", values, "less")


def version(words):
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    numbered = [line for line in lines if re.search(r"\d+\.\d+", line)]
    return numbered[0] if numbered else None


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    yield f"* {os.cpu_count()} cores, {model.group(1) if model else platform.machine()}; Linux {platform.release()}"
    for words in (["socat", "-V"], ["ncat", "--version"], ["openssl", "version"], ["ssh", "-V"],
                  ["spiped", "-v"], [BIN / "ac-send", "--version"]):
        told = version([str(w) for w in words])
        if told:
            yield f"* {told}"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--short", action="store_true")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--size", type=int, default=1024, help="MiB")
    options.add_argument("--out", type=Path, default=ROOT / "bench")
    options.add_argument("--only", choices=["streams", "one-shots"])
    options = options.parse_args()
    rounds, size = (1, 4) if options.short else (options.rounds, options.size)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, out_of_patience)
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    table, missing = Table(), set()
    with tempfile.TemporaryDirectory(prefix="ac-bench-", dir=folder) as folder:
        scene = Scene(folder, size << 20)
        try:
            if options.only in (None, "streams"):
                streams(scene, table, rounds, missing)
            if options.only in (None, "one-shots"):
                one_shots(scene, table, rounds)
        finally:
            scene.close()
    lines = ["# Measured", "", "By `bench/compare.py`; see there.", "", *machine()]
    if missing:
        lines.append(f"* not installed, and so not measured: {', '.join(sorted(missing))}")
    text = "\n".join([*lines, *table.rows()]) + "\n"
    sys.stdout.write(text)
    if not options.short:
        options.out.mkdir(exist_ok=True)
        (options.out / "RESULTS.md").write_text(text.replace("# Measured\n", "# Measured\n\n![chart](results.svg)\n"))
        (options.out / "results.svg").write_text(table.chart())


if __name__ == "__main__":
    main()
