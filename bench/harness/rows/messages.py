"""Many small messages in one session, each acknowledged."""

import subprocess
import time

from ..peers import Ours
from ..scene import BIN, free_port, listening, ready, until, within_patience
from ..table import Row, Target


class Session(Ours):
    """`ac-send -i` to an `ac-listen`: each line is a message, and the exit says that all are acknowledged."""

    read = True

    def deliver(self, scene, lines, out, _):
        """Delivers `lines` to `out`: when it began, and the sender's exit code."""
        listener = scene.start([BIN / "ac-listen", "127.0.0.1:0"], env=scene.home("bob"), stdout=out,
                               stderr=subprocess.PIPE)
        words = [BIN / "ac-send", "-i", f"bob@{ready(listener)}"]
        began = time.monotonic()
        sender = scene.start(words, env=scene.home("alice"), stdin=lines)
        return began, sender.wait()


class ToBroker:
    """`mosquitto_pub -l` at QoS 1 to a broker that nobody reads from."""

    name, needs = "mosquitto_pub, to its broker", ["mosquitto_pub", "/usr/sbin/mosquitto"]
    read = False

    def deliver(self, scene, lines, out, count):
        port = free_port()
        config = scene.folder / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
                          "log_dest stderr\nlog_type subscribe\n")
        broker = scene.start(["/usr/sbin/mosquitto", "-c", config], stderr=subprocess.PIPE)
        until(lambda: listening(port))
        both = ["-h", "127.0.0.1", "-p", port, "-q", "1", "-t", "t"]
        if self.read:
            reader = scene.start(["mosquitto_sub", *both, "-C", count], stdout=out)
            # The one line that it logs: somebody has subscribed.
            broker.stderr.readline()
        began = time.monotonic()
        sender = scene.start(["mosquitto_pub", *both, "-l"], stdin=lines)
        code = sender.wait()
        if self.read:
            reader.wait()
        return began, code


class ToReader(ToBroker):
    """The same with a `mosquitto_sub` behind the broker, until that has all of them."""

    name = "mosquitto_pub, to mosquitto_sub"
    needs = [*ToBroker.needs, "mosquitto_sub"]
    read = True


@within_patience
def rate(scene, peer, count):
    """Messages a second."""
    lines, came = scene.folder / "lines", scene.folder / "came"
    lines.write_text("".join(f"{number:063}\n" for number in range(count)))
    with open(lines, "rb") as file, open(came, "wb") as out:
        began, code = peer.deliver(scene, file, out, count)
        took = time.monotonic() - began
    scene.close()
    if code != 0:
        raise RuntimeError(f"{peer.name}: the sender ended with {code}")
    if peer.read and came.read_bytes() != lines.read_bytes():
        raise RuntimeError(f"{peer.name}: not all messages arrived, once and in order")
    return count / took


def messages(run):
    """Lines of a file, each a message."""
    count = 500 if run.short else 10_000
    peers = run.there([Session, ToBroker, ToReader])
    values = run.interleaved("messages", run.rounds, peers, lambda p: rate(run.scene, p, count))
    run.table.add(Row(
        f"{count} messages of 64 bytes in one session", "messages/s", values,
        "From the sender's start to its exit. `ac-send -i < file` ends when the recipient has printed and "
        "acknowledged each. `mosquitto_pub -l -q 1 < file` ends when its broker has acknowledged each: once "
        "with nobody behind the broker, and once with a `mosquitto_sub -q 1` there, timed until that has "
        "printed all, which is the same work as ours. mosquitto encrypts nothing here.",
        targets={ToBroker.name: Target(1.0), ToReader.name: Target(1.0)}))
