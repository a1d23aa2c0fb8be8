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
        """Bars, each as long as its median beside the longest of its row; a line across ours is where
        the bar must end or begin for a target to be met."""
        bar, gap, left, width = 18, 6, 220, 420
        body, y = [], 24
        for row in self.rows:
            body.append(f'<text x="8" y="{y}" class="t">{escape(row.title)} ({escape(row.unit)})</text>')
            y += 10
            middles = {name: row.median(name) for name in row.figures}
            longest = max(middles.values()) or 1
            for name, value in middles.items():
                length = max(1, round(width * value / longest))
                kind = "o" if name == row.ours() else "p"
                body.append(f'<text x="{left - 8}" y="{y + 13}" class="n">{escape(name)}</text>'
                            f'<rect x="{left}" y="{y}" width="{length}" height="{bar}" class="{kind}"/>'
                            f'<text x="{left + length + 6}" y="{y + 13}">{digits(value)}</text>')
                if kind == "o":
                    marks = (left + width * goal / longest for goal in goals(row))
                    body.extend(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{y - 2}" y2="{y + bar + 2}"/>'
                                for x in marks if x <= left + width)
                y += bar + gap
            y += 26
        style = ("text{font:12px sans-serif;fill:#333}.t{font-weight:bold}.n{text-anchor:end}"
                 ".o{fill:#2a6f97}.p{fill:#bbb}rect.bg{fill:#fff}line{stroke:#c1121f;stroke-width:2}")
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{y}">'
                f'<style>{style}</style><rect class="bg" width="100%" height="100%"/>{"".join(body)}</svg>\n')


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
