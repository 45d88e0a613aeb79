"""The pictures of a comparison: what each method costs in likeness as the edit grows, and rows of its results."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from minidiff import plot
from minidiff.evaluation.studies.compare import Comparison
from minidiff.evaluation.studies.points import TITLES, Point


def against_strength(comparison: Comparison, panels: dict[str, str]) -> Any:
    """One panel for each mark in `panels` (mark -> axis label), one line for each method (colour) and eta (dash).

    Refined settings would double the lines and are left to the tables; a star is a method's operating point.
    """
    fig, axes = plot.figure(3.4 * len(panels), 3.8, ncols=len(panels))
    lines: dict[tuple[str, float], list[Point]] = {}
    for point in sorted(comparison.marks, key=lambda point: point.strength):
        if not point.refine:
            lines.setdefault((point.method, point.eta), []).append(point)
    methods = list(comparison.best)
    for ax, (name, label) in zip(axes, panels.items()):
        etas = dict.fromkeys(methods, 0)
        for index, ((method, eta), points) in enumerate(lines.items()):
            look = {"color": plot.COLOURS[methods.index(method)], "marker": plot.MARKERS[index % len(plot.MARKERS)]}
            look = plot.style(etas[method]) | look  # dashes tell etas apart, markers all lines
            etas[method] += 1
            values = [_value(comparison, point, name) for point in points]
            title = TITLES[method] + ("" if method == "ddib" else f", eta {eta:g}")
            ax.plot([point.strength for point in points], values, label=title, **look)
        for method, point in comparison.best.items():
            star = {"color": plot.COLOURS[methods.index(method)], "marker": "*", "markersize": 13, "linestyle": ""}
            ax.plot(point.strength, _value(comparison, point, name), markeredgecolor="white", **star)
        ax.set(xlabel="strength", ylabel=label)
    handles, titles = axes[0].get_legend_handles_labels()
    fig.legend(handles, titles, frameon=False, fontsize="small", ncols=4, loc="outside lower center")
    return fig


def _value(comparison: Comparison, point: Point, name: str) -> float:
    return comparison.marks[point][name].estimate.value


def describe(comparison: Comparison, panels: dict[str, str], what: str) -> str:
    """Alternative text for `against_strength`: the ends of each method's line, at its chosen eta, in words."""
    methods = dict.fromkeys(point.method for point in comparison.marks)
    parts = []
    for name, label in panels.items():
        for method in methods:
            eta = comparison.best[method].eta
            line = (p for p in comparison.marks if (p.method, p.eta, p.refine) == (method, eta, 0))
            mine = sorted(line, key=lambda p: p.strength)
            low, high = (_value(comparison, p, name) for p in (mine[0], mine[-1]))
            parts.append(
                f"{label} of {TITLES[method]} (eta {eta:g}) goes from {low:.3g} at strength {mine[0].strength:g} "
                f"to {high:.3g} at {mine[-1].strength:g}"
            )
    return f"Curves over strength for {what}: {'; '.join(parts)}."


def examples(
    sources: Tensor, truth: Tensor | None, comparison: Comparison, kind: str, became: str, display: bool = False
) -> plot.Picture:
    """Rows of pictures: the sources, the truth where it is known, each method at its operating point."""
    rows: list[Tensor] = [sources]
    labels: list[str] = [f"source: {kind}"]
    if truth is not None:
        rows, labels = [*rows, truth], [*labels, f"true {became}"]
    for method, images in comparison.shown.items():
        rows, labels = [*rows, images], [*labels, TITLES[method]]
    settings = "; ".join(
        f"{TITLES[m]} at strength {p.strength:g}"
        + (f", eta {p.eta:g}" if p.eta else "")
        + (f", refined at {p.refine:g}" if p.refine else "")
        for m, p in comparison.best.items()
    )
    alt = (
        f"{len(sources)} columns of pictures. From top to bottom: the {kind}s"
        + (f", the same factors truly drawn as {became}s" if truth is not None else "")
        + f", and their translations by {settings}."
    )
    return plot.grid(rows, row_labels=labels, alt=alt, display=display)


def factor_bars(comparison: Comparison, names: Sequence[str]) -> Any:
    """How well each factor survives at each method's operating point, as groups of bars."""
    fig, ax = plot.figure(7.2, 3.2)
    width = 0.8 / len(comparison.best)
    hatches = ("", "//", "..", "xx")
    for index, (method, point) in enumerate(comparison.best.items()):
        values = [_value(comparison, point, name) for name in names]
        places = [i + (index - (len(comparison.best) - 1) / 2) * width for i in range(len(names))]
        bars = {"color": plot.COLOURS[index], "hatch": hatches[index % 4], "edgecolor": "white", "linewidth": 0.5}
        ax.bar(places, values, width, label=TITLES[method], **bars)
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel="correlation with the source")
    ax.axhline(0, color="black", linewidth=0.6)
    ax.legend(frameon=False, fontsize="small", ncols=len(comparison.best), loc="lower center", bbox_to_anchor=(0.5, 1))
    return fig


def describe_bars(comparison: Comparison, names: Sequence[str]) -> str:
    """Alternative text for `factor_bars`."""
    parts = []
    for method, point in comparison.best.items():
        values = ", ".join(f"{name} {_value(comparison, point, name):.2f}" for name in names)
        parts.append(f"{TITLES[method]}: {values}")
    return f"Bars of each factor's correlation with the source. {'; '.join(parts)}."
