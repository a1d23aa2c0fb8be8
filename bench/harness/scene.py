"""What measurements stand on: a folder with keys and an input, and programs started and ended."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# One measurement may take this long, in seconds.
PATIENCE = 300
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
# Our programs.
BIN = Path(os.environ.get("AC_BIN", TARGET / "release")).resolve()
# The same, built with sealing left out, in a folder of their own, which is no place to install from.
UNSEALED = Path(os.environ.get("AC_UNSEALED_BIN", TARGET / "unsealed" / BIN.name)).resolve()


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
        # Words before those of a program that is started: what counts what it does.
        self.prefix = []
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
        if self.prefix:
            # So that what counts does not end alone.
            more["process_group"] = 0
        child = subprocess.Popen([str(w) for w in [*self.prefix, *words]], **more)
        self.children.append(child)
        return child

    def stop(self, child):
        if child.poll() is None:
            if os.getpgid(child.pid) == child.pid:
                os.killpg(child.pid, signal.SIGKILL)
            child.kill()
        child.wait()
        if child in self.children:
            self.children.remove(child)

    def close(self):
        for child in list(self.children):
            self.stop(child)


def ready(child, said=rb"listening on (\S+)"):
    """Where one of our listeners listens."""
    for line in child.stderr:
        found = re.search(said, line)
        if found:
            return found.group(1).decode()
    raise RuntimeError("it ended before it was ready")


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
