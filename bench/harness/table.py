"""What was measured: rows of medians with their spread, ratios and targets, as text and as a chart."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Target:
    """What must hold of our median beside that of another."""

    # How many times as good as the other: its throughput, or the inverse of its time.
    least: float
    # The same in words, where the number alone is hard to read.
    said: str = ""

    def __str__(self):
        return self.said or f"at least {self.least:g} × its rate"


@dataclass
class Row:
    """One work, and who did it how well."""

    # What is done.
    title: str
    unit: str
    # Name to values; the first is ours.
    figures: dict
    # What exactly each of them does, for readers who doubt the comparison.
    about: str = ""
    # "more" or "less", whichever is better.
    better: str = "more"
    # Name of another to `Target`.
    targets: dict = field(default_factory=dict)
    # What none of our values may exceed, or None.
    most: float | None = None

    def median(self, name):
        return statistics.median(self.figures[name])

    def ours(self):
        return next(iter(self.figures))

    def ratio(self, name):
        """How many times as good as that one ours is."""
        ours, other = self.median(self.ours()), self.median(name)
        return ours / other if self.better == "more" else other / ours

    def promises(self):
        """Against whom, what must hold, what was measured, and whether it holds."""
        for name, target in self.targets.items():
            if name in self.figures:
                ratio = self.ratio(name)
                measured = f"{ratio:.2f} ×" if self.better == "more" else f"{digits(1 / ratio)} × its time"
                yield name, str(target), measured, ratio >= target.least
        if self.most is not None:
            worst = max(self.figures[self.ours()])
            yield "", f"at most {self.most:g} {self.unit}", f"{digits(worst)} {self.unit}", worst <= self.most

    def text(self):
        yield f"\n### {self.title}\n"
        if self.about:
            yield f"{self.about}\n"
        met = {name: f"{said}: {verdict(holds)}" for name, said, _, holds in self.promises()}
        met.setdefault(self.ours(), met.get("", ""))
        yield f"| | {self.unit}, median (least to most) | ours beside it | target |\n| --- | --- | --- | --- |"
        for name, values in self.figures.items():
            spread = f"{digits(self.median(name))} ({digits(min(values))} to {digits(max(values))})"
            yield f"| {name} | {spread} | {self.ratio(name):.2f} × | {met.get(name, '')} |"


class Table:
    """All rows of one run."""

    def __init__(self):
        self.rows = []

    def add(self, row):
        self.rows.append(row)

    def text(self):
        promises = [(row, *promise) for row in self.rows for promise in row.promises()]
        if promises:
            yield "\n## Targets\n\n| work | against | target | measured | |\n| --- | --- | --- | --- | --- |"
        for row, name, said, measured, holds in promises:
            yield f"| {row.title} | {name} | {said} | {measured} | {verdict(holds)} |"
        yield "\n## Figures"
        for row in self.rows:
            yield from row.text()

    def chart(self):
        return bars(self.rows)


WIDTH, BAR, GAP = 420, 18, 6
# About what a character of the charts is wide.
CHARACTER = 7
STYLE = """\
text{font:12px sans-serif;fill:#333}.t{font-weight:bold}.n{text-anchor:end}
.o{fill:#4a90b8}.p{fill:#bbb}rect.bg{fill:#fff}.g{stroke:#c1121f;stroke-width:2}.s{stroke:#333;fill:none}"""


def bars(rows):
    """Bars, each as long as its median beside the longest of its row, with their spread; a line across ours is
    where the bar must end or begin for a target to be met."""
    left = 16 + CHARACTER * max(len(name) for row in rows for name in row.figures)
    body, y = legend(left), 86
    for row in rows:
        body.append(f'<text x="8" y="{y}"><tspan class="t">{escape(row.title)}</tspan>'
                    f' ({escape(row.unit)}, {row.better} is better)</text>')
        y += 10
        marks = list(goals(row))
        longest = max(*marks, *(max(values) for values in row.figures.values()), 1e-9)
        for name, values in row.figures.items():
            ours = name == row.ours()
            body.append(bar(name, [left + WIDTH * value / longest for value in spread(values)],
                            [left + WIDTH * mark / longest for mark in marks if ours],
                            digits(row.median(name)), left, y, "o" if ours else "p"))
            y += BAR + GAP
        y += 26
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + WIDTH + 90}" height="{y - 20}">'
            f'<style>{STYLE}</style><rect class="bg" width="100%" height="100%"/>{"".join(body)}</svg>\n')


def bar(name, spread, marks, label, left, y, kind):
    """One of ours or a peer's; `spread` and `marks` are where the values are on the paper."""
    least, middle, most = spread
    at = most + 6
    for mark in sorted(marks):
        # The number gives way.
        if at - 4 < mark < at + CHARACTER * len(label) + 4:
            at = mark + 6
    lines = "".join(f'<path class="g" d="M{mark:.0f} {y - 2}v{BAR + 4}"/>' for mark in marks)
    return (f'<text x="{left - 8}" y="{y + 13}" class="n">{escape(name)}</text>'
            f'<rect x="{left}" y="{y}" width="{max(1, middle - left):.0f}" height="{BAR}" class="{kind}"/>'
            f'{whisker(least, most, y)}{lines}<text x="{at:.0f}" y="{y + 13}">{label}</text>')


def whisker(least, most, y):
    if most - least < 2:
        return ""
    return (f'<path class="s" d="M{least:.1f} {y + BAR / 2:g}H{most:.1f}'
            f'M{least:.1f} {y + 5}v{BAR - 10}M{most:.1f} {y + 5}v{BAR - 10}"/>')


def legend(left):
    """What the signs mean."""
    second = left + 180
    return [f'<rect x="8" y="10" width="24" height="{BAR}" class="o"/><text x="40" y="23">ours, median</text>',
            f'<rect x="8" y="34" width="24" height="{BAR}" class="p"/><text x="40" y="47">others, median</text>',
            f'{whisker(second, second + 24, 10)}<text x="{second + 32}" y="23">least to most</text>',
            f'<path class="g" d="M{second + 12} 32v{BAR + 4}"/>'
            f'<text x="{second + 32}" y="47">target of ours, where there is one</text>']


def spread(values):
    return min(values), statistics.median(values), max(values)


def goals(row):
    """What our median must come to, for each target."""
    for name, target in row.targets.items():
        if name in row.figures:
            other = row.median(name)
            yield other * target.least if row.better == "more" else other / target.least
    if row.most is not None:
        yield row.most


def verdict(holds):
    return "met" if holds else "**not met**"


def digits(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")
