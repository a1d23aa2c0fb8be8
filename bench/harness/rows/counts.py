"""Instructions and system calls: steadier than time, and so what to look at between two commits."""

import re
import shutil
import subprocess

from ..peers import Nc, Ours, Socat, SocatSsl
from ..table import Row
from .one_shots import seconds_of_one_shot
from .streams import size, stream

INSTRUCTIONS, CALLS = "instructions:u", "raw_syscalls:sys_enter"


class Perf:
    """Counts one kind of event, of all that is started under it."""

    def __init__(self, event):
        self.event = event

    def is_there(self):
        """Virtual machines often count no instructions, and only root may count system calls."""
        if not shutil.which("perf"):
            return False
        done = subprocess.run(["perf", "stat", "-x,", "-e", self.event, "true"], capture_output=True, check=False)
        return self.sum(done.stderr.decode()) > 0

    def words(self, file):
        return ["perf", "stat", "-x,", "-e", self.event, "--append", "-o", file]

    def sum(self, text):
        return sum(map(int, re.findall(rf"^(\d+),[^,]*,{self.event}", text, re.MULTILINE)))


class Valgrind:
    """Counts instructions, of one program, on a processor that it makes up: no vectors of 512 bits."""

    def is_there(self):
        return shutil.which("valgrind") is not None

    def words(self, file):
        return ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
                f"--log-file={file}"]

    def sum(self, text):
        return sum(int(count.replace(",", "")) for count in re.findall(r"I +refs: +([\d,]+)", text))


class Counted:
    """A peer of which is counted what its sender does, and, if asked for, its listener."""

    def __init__(self, peer, counter, both):
        self.peer, self.counter, self.both = peer, counter, both
        self.name = peer.name

    def listen(self, scene, out):
        file = scene.folder / "counted"
        file.unlink(missing_ok=True)
        words = self.counter.words(file)
        scene.prefix = words if self.both else []
        try:
            return self.peer.listen(scene, out)
        finally:
            scene.prefix = words

    def send(self, scene, at):
        return self.peer.send(scene, at)

    def count(self, scene, measure):
        """What is counted while `measure` has it send."""
        try:
            measure(scene, self)
        finally:
            scene.prefix = []
        return self.counter.sum((scene.folder / "counted").read_text())


def counts(run):
    """Of a one-shot and of a stream."""
    calls = Perf(CALLS)
    instructions = next(filter(lambda counter: counter.is_there(), (Perf(INSTRUCTIONS), Valgrind())), None)
    if instructions:
        short_message(run, instructions, "instructions", 1e6, "million")
    if calls.is_there():
        short_message(run, calls, "system calls", 1, "calls")
        large_file(run, calls)
    run.missing.update(name for name, there in {
        "instructions": instructions, "system calls": calls.is_there()}.items() if not there)


def short_message(run, counter, what, scale, unit):
    peers = [Counted(peer, counter, False) for peer in run.there([Ours, Nc, Socat, SocatSsl])]
    # What valgrind counts is always the same, and it takes its time.
    rounds = 1 if run.short or isinstance(counter, Valgrind) else 3
    values = run.interleaved(f"echo hi, {what}", rounds, peers,
                             lambda p: p.count(run.scene, seconds_of_one_shot) / scale)
    with_what = "`perf stat`" if isinstance(counter, Perf) else "`valgrind --tool=cachegrind`"
    run.table.add(Row(f"echo hi: {what} of the sender", unit, values,
                      f"From exec to exit, the loader included; counted by {with_what}.", better="less"))


def large_file(run, counter):
    peers = [Counted(peer, counter, True) for peer in run.there([Ours, Nc, Socat, SocatSsl])]
    values = run.interleaved("file, system calls", 1 if run.short else 3, peers,
                             lambda p: p.count(run.scene, stream) / (run.scene.size / (1 << 20)))
    run.table.add(Row(f"{size(run)}: system calls a MiB, both ends", "calls/MiB", values,
                      "From file to `/dev/null`, as above; counted by `perf stat`.", better="less"))
