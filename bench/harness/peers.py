"""The programs that are measured beside each other, each with how it listens and how it sends."""

import os
import shutil
import subprocess
from pathlib import Path

from .scene import BIN, UNSEALED, free_port, listening, ready, until


class Ours:
    name = "AnonChat"
    needs = [BIN / "ac-send"]
    folder = BIN
    options = []

    def listen(self, scene, out):
        child = scene.start([self.folder / "ac-listen", *self.options, "-1", "127.0.0.1:0"],
                            env=scene.home("bob"), stdout=out, stderr=subprocess.PIPE)
        return child, ready(child)

    def send(self, scene, at):
        return [self.folder / "ac-send", f"bob@{at}"], scene.home("alice")


class Plain(Ours):
    """Without a session, to a bare TCP connection."""

    name, options = "AnonChat --plain", ["--plain"]

    def send(self, scene, at):
        return [self.folder / "ac-send", "--plain", at], scene.home("alice")


class Unsealed(Ours):
    """The same programs with sealing left out of them when they were built: see `build.py`."""

    name, folder = "sealing left out", UNSEALED
    needs = [UNSEALED / "ac-send", UNSEALED / "ac-listen"]


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
