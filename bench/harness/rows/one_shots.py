"""One short message: what a program costs before its first byte and after its last."""

import subprocess
import time

from ..peers import Nc, Ncat, NcatSsl, Ours, Socat, SocatSsl, Ssh
from ..scene import within_patience
from ..table import Row, Target


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


def one_shots(run):
    """A short message, from start to exit."""
    peers = run.there([Ours, Nc, Ncat, NcatSsl, Socat, SocatSsl, Ssh])
    values = run.interleaved("echo hi", run.rounds * 3, peers, lambda p: seconds_of_one_shot(run.scene, p) * 1e3)
    run.table.add(Row(
        "echo hi, until the sender has ended", "ms", values,
        "From the sender's start to its exit, which for AnonChat means that the message was acknowledged and "
        "for the others that it was handed to the kernel.",
        better="less",
        targets={"nc": Target(1 / 3, "at most 3 × its time"), "ncat --ssl": Target(10, "at most 1/10 of its time")}))
