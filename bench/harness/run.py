"""One run: the scene, how often each is measured, what was measured and what could not be."""

import json
import os
import subprocess
import sys
import time

from .build import bench
from .peers import is_there
from .scene import ROOT, Scene
from .table import Table


class Run:
    """What each function that measures a row is given."""

    def __init__(self, folder, size, rounds, short=False):
        self.scene = Scene(folder, size)
        self.table = Table()
        self.rounds = rounds
        # Every path, and no time: sizes are small.
        self.short = short
        # What is not installed.
        self.missing = set()
        self.began = time.monotonic()

    def tell(self, text):
        """Says on stderr where the run is."""
        sys.stderr.write(f"[{time.monotonic() - self.began:5.0f} s] {text}\n")
        sys.stderr.flush()

    def there(self, kinds):
        """One of each kind of peer that is installed."""
        peers = [kind() for kind in kinds]
        self.missing.update(peer.name for peer in peers if not is_there(peer))
        return [peer for peer in peers if is_there(peer)]

    def interleaved(self, what, rounds, peers, measure):
        """`measure` of each peer, in turns: name to values. Each round begins with another, lest one always
        stands in the wake of the same neighbour."""
        values = {peer.name: [] for peer in peers}
        for number in range(rounds):
            self.tell(f"{what}: round {number + 1} of {rounds}")
            first = number % len(peers)
            for peer in peers[first:] + peers[:first]:
                values[peer.name].append(measure(peer))
        return values

    def figures(self, name, sizes, folder=None):
        """The lines of JSON of a program in `benches/` that takes turns itself, and puts its files into
        `folder`. `sizes` are those of its `AC_BENCH_...`, unless the environment has others; what else it
        prints is told."""
        given = {f"AC_BENCH_{name}": str(value) for name, value in sizes.items()}
        given = {**given, **os.environ, "AC_BENCH_JSON": "1"}
        if folder:
            given["TMPDIR"] = str(folder)
        words = [bench(name), "--bench"]
        with subprocess.Popen(words, cwd=ROOT, env=given, stdout=subprocess.PIPE, text=True) as program:
            for line in program.stdout:
                self.tell(f"{name}: {line.strip()}")
                if line.startswith("{"):
                    yield json.loads(line)
        if program.returncode != 0:
            raise RuntimeError(f"{name} ended with {program.returncode}")
