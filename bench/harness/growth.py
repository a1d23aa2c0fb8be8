"""How time grows with work: lines of medians at growing counts, as text and as a chart."""

import math
import statistics
from dataclasses import dataclass, field

from .table import digits, escape

# A step is looked at for straightness once its time is so many times that of the first: before that, a
# program's start is most of it.
BEYOND_START = 2


@dataclass
class Axis:
    """One kind of work, in growing amounts."""

    # For files and --only.
    name: str
    title: str
    # What is counted, as `(1, "file")`, and how a count is shown.
    thing: str
    about: str
    shown: object = str
    # Name of a line to count to values, in seconds; the first is ours.
    lines: dict = field(default_factory=dict)

    def add(self, line, count, values):
        self.lines.setdefault(line, {})[count] = values

    def medians(self, line):
        return [(count, statistics.median(values)) for count, values in sorted(self.lines[line].items())]

    def steps(self, line):
        """Count, seconds, seconds for each, and seconds for each more than at the step before, which is
        None while the start is most of it."""
        medians = self.medians(line)
        yield *medians[0], medians[0][1] / medians[0][0], None
        first = medians[0][1]
        for (fewer, before), (count, seconds) in zip(medians, medians[1:]):
            more = (seconds - before) / (count - fewer) if seconds > max(before, BEYOND_START * first) else None
            yield count, seconds, seconds / count, more

    def bend(self, line):
        """What one more costs at the last step, beside the median of the steps before it; None if there is none."""
        more = [step[3] for step in self.steps(line) if step[3] is not None]
        return more[-1] / statistics.median(more[:-1]) if len(more) > 1 else None

    def text(self):
        yield f"\n## {self.title}\n\n![chart](scale-{self.name}.svg)\n\n{self.about}\n"
        for line in self.lines:
            yield f"\n### {line}\n"
            yield f"| {self.thing}s | median (least to most) | for each {self.thing} | for each more |"
            yield "| ---: | ---: | ---: | ---: |"
            for count, seconds, each, more in self.steps(line):
                values = self.lines[line][count]
                spread = f"{time(seconds)} ({time(min(values))} to {time(max(values))})"
                yield f"| {self.shown(count)} | {spread} | {time(each)} | {time(more) if more else ''} |"
            bend = self.bend(line)
            if bend is not None:
                yield f"\nOne more costs {bend:.2f} × at the last step what it costs at those before it (their median)."

    def chart(self):
        return chart(self)


def time(seconds):
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= size:
            return f"{digits(seconds / size)} {unit}"
    return f"{seconds * 1e12:.3g} ps"


LEFT, TOP, WIDTH, HEIGHT = 70, 40, 480, 320
# Lines that lie upon each other can be told apart: those above are broken, and their dots smaller.
COLOURS = ("#2a6f97", "#c1121f", "#588157", "#8338ec", "#fb8500", "#666")
DASHES = ("none", "8 3", "4 3", "10 3 2 3", "2 3", "12 6")
STYLE = """\
text{font:12px sans-serif;fill:#333}.t{font-weight:bold}.m{text-anchor:middle}.e{text-anchor:end}
.g{stroke:#ddd}.d{stroke:#999;stroke-dasharray:1 4;stroke-width:1.5}rect.bg{fill:#fff}"""


class Paper:
    """Both axes logarithmic: what grows in proportion is parallel to the dotted lines."""

    def __init__(self, axis):
        steps = [step for line in axis.lines.values() for step in line.items()]
        self.counts = sorted({count for count, _ in steps})
        self.low = math.floor(math.log10(min(min(values) for _, values in steps)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(max(values) for _, values in steps))))
        self.right = max(math.log10(self.counts[-1]), 0.1)

    def x(self, decade):
        return LEFT + WIDTH * decade / self.right

    def y(self, decade):
        return TOP + HEIGHT * (self.high - decade) / (self.high - self.low)

    def at(self, count, seconds):
        return self.x(math.log10(count)), self.y(math.log10(seconds))

    def grid(self, axis):
        for decade in range(self.low, self.high + 1):
            y = self.y(decade)
            yield (f'<path class="g" d="M{LEFT} {y:.1f}h{WIDTH}"/>'
                   f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="e">{time(10.0 ** decade)}</text>')
        for count in self.counts:
            x = self.x(math.log10(count))
            yield (f'<path class="g" d="M{x:.1f} {TOP}v{HEIGHT}"/>'
                   f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" class="m">{escape(axis.shown(count))}</text>')
        for decade in range(math.floor(self.low - self.right), self.high):
            # From the left edge or the lower one, to the upper one or the right.
            begin, end = max(0, self.low - decade), min(self.right, self.high - decade)
            if begin < end:
                yield (f'<path class="d" d="M{self.x(begin):.1f} {self.y(decade + begin):.1f}'
                       f'L{self.x(end):.1f} {self.y(decade + end):.1f}"/>')

    def line(self, number, steps):
        """A line through the medians of `steps`, with a bar from the least to the most at each."""
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        at = [self.at(count, statistics.median(values)) for count, values in sorted(steps.items())]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
        size = max(2.5, 4.5 - number / 2)
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        for x, y in at:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" fill="{colour}"/>'
        for count, values in steps.items():
            (x, above), (_, below) = self.at(count, max(values)), self.at(count, min(values))
            if below - above > 2 * size:
                yield f'<path d="M{x:.1f} {above:.1f}V{below:.1f}" stroke="{colour}"/>'


def chart(axis):
    paper = Paper(axis)
    body = [f'<text x="8" y="20"><tspan class="t">{escape(axis.title)}</tspan> (median, and from least to most)</text>',
            *paper.grid(axis),
            f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 36}" class="m">{escape(axis.thing)}s</text>']
    key = TOP + HEIGHT + 58
    for number, (line, steps) in enumerate(axis.lines.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        body.extend(paper.line(number, steps))
        body.append(f'<path d="M{LEFT} {key - 4}h36" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
                    f'<text x="{LEFT + 44}" y="{key}">{escape(line)}</text>')
        key += 18
    body.append(f'<path class="d" d="M{LEFT} {key - 4}h36"/><text x="{LEFT + 44}" y="{key}">in proportion</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 40}" height="{key + 14}">'
            f'<style>{STYLE}</style><rect class="bg" width="100%" height="100%"/>{"".join(body)}</svg>\n')
