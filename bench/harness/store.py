"""What was measured, kept beside the pages: charts can be drawn anew without measuring anew."""

import dataclasses
import json

from .growth import Axis
from .table import Row, Table, Target


def keep(path, things):
    """One line for each row or axis."""
    lines = (json.dumps(thing, ensure_ascii=False) for thing in things)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def keep_table(path, table):
    keep(path, map(dataclasses.asdict, table.rows))


def keep_axes(path, axes):
    keep(path, ({"name": axis.name, "title": axis.title, "thing": axis.thing, "about": axis.about,
                 "shown": {count: axis.shown(count) for line in axis.lines.values() for count in line},
                 "lines": axis.lines} for axis in axes))


def table(path):
    kept = Table()
    for row in json.loads(path.read_text()):
        targets = {name: Target(**target) for name, target in row.pop("targets").items()}
        kept.add(Row(**row, targets=targets))
    return kept


def axes(path):
    for axis in json.loads(path.read_text()):
        shown = axis.pop("shown")
        lines = {line: {int(count): values for count, values in steps.items()}
                 for line, steps in axis.pop("lines").items()}
        yield Axis(**axis, shown=lambda count, shown=shown: shown[str(count)], lines=lines)
