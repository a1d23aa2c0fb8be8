#!/usr/bin/env python3
"""Runs AnonChat and its peers side by side, and writes what came of it as a table and a chart.

    bench/compare.py [--short] [--out DIR] [--only NAME]...
    bench/compare.py --draw [--out DIR]

Every measurement of ours stands beside those of the others in the same run, in turns, and what counts
is the ratio of the medians: machines are noisy. --short runs every path with little data and looks at
no time: for CI. A peer that is not installed is passed over, and the table says so. --draw measures nothing
and draws the chart anew, from the figures that the last run has left.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from harness import build, store
from harness.machine import machine
from harness.rows import BENCHES, ROWS
from harness.run import Run
from harness.scene import ROOT, out_of_patience

FIGURES = "results.json"


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--out", type=Path, help="where to write; by default bench/, and nowhere if some rows are chosen")
    parser.add_argument("--only", choices=ROWS, action="append", help="can be given several times")
    return parser.parse_args()


def report(run):
    lines = ["# Measured", "", "By `bench/compare.py`; see there.", "", *machine()]
    if run.short:
        lines.append("* a short run: every path was taken, and no figure means anything")
    if run.missing:
        lines.append(f"* not there, and so not measured: {', '.join(sorted(run.missing))}")
    return "\n".join([*lines, *run.table.text()]) + "\n"


def draw(folder, table):
    (folder / "results.svg").write_text(table.chart())


def main():
    chosen = options()
    folder = chosen.out or ROOT / "bench"
    if chosen.draw:
        draw(folder, store.table(folder / FIGURES))
        return
    rounds, size = (1, 4) if chosen.short else (chosen.rounds, chosen.size)
    rows = [row for row in ROWS if not chosen.only or row in chosen.only]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, out_of_patience)
    build.programs()
    build.unsealed()
    build.check()
    for row in BENCHES.keys() & rows:
        build.bench(BENCHES[row])
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="ac-bench-", dir=memory) as scratch:
        run = Run(scratch, size << 20, rounds, chosen.short)
        try:
            for row in rows:
                ROWS[row](run)
        finally:
            run.scene.close()
    text = report(run)
    sys.stdout.write(text)
    # A part of the rows is no page of the project's.
    if not chosen.short and (chosen.out or not chosen.only):
        folder.mkdir(exist_ok=True)
        (folder / "RESULTS.md").write_text(text.replace("# Measured\n", "# Measured\n\n![chart](results.svg)\n"))
        store.keep_table(folder / FIGURES, run.table)
        draw(folder, run.table)


if __name__ == "__main__":
    main()
