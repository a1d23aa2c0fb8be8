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
COLOURS = ("#2a6f97", "#c1121f", "#588157", "#8338ec", "#fb8500", "#666")


def chart(axis):
    """Both axes logarithmic: what grows in proportion is parallel to the dashed lines."""
    points = [point for line in axis.lines for point in axis.medians(line)]
    counts = sorted({count for count, _ in points})
    low = math.floor(math.log10(min(seconds for _, seconds in points)))
    high = max(low + 1, math.ceil(math.log10(max(seconds for _, seconds in points))))
    right = max(math.log10(counts[-1]), 0.1)

    def x(decade):
        return LEFT + WIDTH * decade / right

    def y(decade):
        return TOP + HEIGHT * (high - decade) / (high - low)

    body = [f'<text x="8" y="20" class="t">{escape(axis.title)}</text>']
    for decade in range(low, high + 1):
        body.append(f'<path class="g" d="M{LEFT} {y(decade):.1f}h{WIDTH}"/>'
                    f'<text x="{LEFT - 6}" y="{y(decade) + 4:.1f}" class="e">{time(10.0 ** decade)}</text>')
    for count in counts:
        at = x(math.log10(count))
        body.append(f'<path class="g" d="M{at:.1f} {TOP}v{HEIGHT}"/>'
                    f'<text x="{at:.1f}" y="{TOP + HEIGHT + 16}" class="m">{escape(axis.shown(count))}</text>')
    for decade in range(math.floor(low - right), high):
        # From the left edge or the lower one, to the upper one or the right.
        begin, end = max(0, low - decade), min(right, high - decade)
        if begin < end:
            body.append(f'<path class="d" d="M{x(begin):.1f} {y(decade + begin):.1f}'
                        f'L{x(end):.1f} {y(decade + end):.1f}"/>')
    for number, line in enumerate(axis.lines):
        colour = COLOURS[number % len(COLOURS)]
        at = [(x(math.log10(count)), y(math.log10(seconds))) for count, seconds in axis.medians(line)]
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in at)
        dots = "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in at)
        below = TOP + HEIGHT + 58 + 18 * number
        body.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'
                    f'<path d="M{LEFT} {below - 4}h24" stroke="{colour}" stroke-width="2"/>'
                    f'<text x="{LEFT + 32}" y="{below}">{escape(line)}</text>')
    body.append(f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 36}" class="m">{escape(axis.thing)}s</text>')
    style = ("text{font:12px sans-serif;fill:#333}.t{font-weight:bold}.m{text-anchor:middle}.e{text-anchor:end}"
             ".g{stroke:#ddd}.d{stroke:#ccc;stroke-dasharray:3 4}rect.bg{fill:#fff}")
    tall = TOP + HEIGHT + 58 + 18 * len(axis.lines)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 40}" height="{tall}">'
            f'<style>{style}</style><rect class="bg" width="100%" height="100%"/>{"".join(body)}</svg>\n')
