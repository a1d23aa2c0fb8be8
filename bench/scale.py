#!/usr/bin/env python3
"""Measures how cost grows with work, and writes it as tables and charts.

    bench/scale.py [--short] [--out DIR] [--only NAME]... [--most NUMBER]
    bench/scale.py --draw [--out DIR]

Time against size, clients, senders, recipients and files: straight lines on logarithmic paper, or the table
says how much more one more costs at the end. --short runs every path with little to do and looks at no time: for CI.
--draw measures nothing and draws the charts anew, from the figures that the last run has left.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from harness import build, store
from harness.axes import AXES
from harness.machine import machine
from harness.run import Run
from harness.scene import ROOT, out_of_patience

FIGURES = "scale.json"


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write; by default bench/, and nowhere if a part is chosen")
    parser.add_argument("--only", choices=AXES, action="append", help="can be given several times")
    parser.add_argument("--most", type=int, help="the largest count that is measured")
    return parser.parse_args()


def draw(folder, axes):
    for axis in axes:
        (folder / f"scale-{axis.name}.svg").write_text(axis.chart())


def main():
    chosen = options()
    folder = chosen.out or ROOT / "bench"
    if chosen.draw:
        draw(folder, store.axes(folder / FIGURES))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, out_of_patience)
    names = [name for name in AXES if not chosen.only or name in chosen.only]
    build.programs()
    if "clients" in names or "senders" in names:
        build.bench("clients")
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="ac-bench-", dir=memory) as scratch:
        run = Run(scratch, 1 << 20, 1 if chosen.short else chosen.rounds, chosen.short)
        run.most = chosen.most
        try:
            axes = [AXES[name](run) for name in names]
        finally:
            run.scene.close()
    lines = ["# Cost over work", "", "By `bench/scale.py`; see there. Dotted lines in the charts are proportion.", "",
             *machine()]
    if run.missing:
        lines.append(f"* not there, and so not measured: {', '.join(sorted(run.missing))}")
    text = "\n".join([*lines, *(line for axis in axes for line in axis.text())]) + "\n"
    sys.stdout.write(text)
    # A part of the axes is no page of the project's.
    if not chosen.short and (chosen.out or not (chosen.only or chosen.most)):
        folder.mkdir(exist_ok=True)
        (folder / "SCALE.md").write_text(text)
        store.keep_axes(folder / FIGURES, axes)
        draw(folder, axes)


if __name__ == "__main__":
    main()
