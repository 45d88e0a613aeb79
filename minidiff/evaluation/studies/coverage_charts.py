"""The charts of the study of coverage: rates with their intervals beside the truth, what guidance reaches, and pictures of it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minidiff import plot
from minidiff.evaluation.results import Row
from minidiff.evaluation.studies.individuals import Gallery
from minidiff.evaluation.studies.rare_world import GROUPS


def rates(rows: Sequence[Row], names: Sequence[str]) -> tuple[Any, str]:
    """The corrected rate of each group with its interval, beside the truth; and that in words."""
    fig, axes = plot.figure(8, 3, ncols=len(GROUPS))
    found, parts = {row.name: row for row in rows}, []
    for ax, group in zip(axes, GROUPS):
        truth = found[f"rates/truth/{group}"].value
        ax.axhline(100 * truth, color="black", linewidth=0.8, linestyle="--")
        for index, name in enumerate(names):
            row = found[f"rates/{name}/{group}"]
            if row.value is None:
                continue
            low, high = row.interval or (row.value, row.value)
            gap = [[100 * (row.value - low)], [100 * (high - row.value)]]
            look = {key: value for key, value in plot.style(index).items() if key != "linestyle"}
            ax.errorbar([index], [100 * row.value], yerr=gap, capsize=3, linestyle="", label=name, **look)
            parts.append(
                f"{group} by {name} {100 * row.value:.2f} ({100 * low:.2f} to {100 * high:.2f}), truth {100 * truth:g}"
            )
        ax.set(title=group, xticks=[], ylabel="%" if ax is axes[0] else "", xlim=(-0.6, len(names) - 0.4))
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        fig.legend(handles, labels, frameon=False, fontsize="small", ncols=3, loc="outside lower center")
    return fig, f"Rates of rare groups in plain samples, in percent with intervals; dashed: truth. {'; '.join(parts)}."


def reach(rows: Sequence[Row], names: Sequence[str]) -> tuple[Any, str]:
    """What guidance reaches: a group of bars for each goal, a bar for each generator."""
    fig, ax = plot.figure(8, 3.2)
    found, parts, width = {row.name: row.value for row in rows}, [], 0.8 / len(names)
    goals = [*GROUPS, "individuals"]
    for index, name in enumerate(names):
        values = [found[f"guided/{name}/{group}/success"] for group in GROUPS] + [found[f"individuals/{name}/reached"]]
        places = [i + (index - (len(names) - 1) / 2) * width for i in range(len(goals))]
        look = {"color": plot.COLOURS[index % 7], "hatch": ("", "//", "..", "xx")[index % 4], "edgecolor": "white"}
        ax.bar(places, values, width, label=name, linewidth=0.5, **look)
        parts.append(f"{name}: " + ", ".join(f"{goal} {value:.2f}" for goal, value in zip(goals, values)))
    ax.set_xticks(range(len(goals)), goals)
    ax.set(ylabel="share of chains that arrive", ylim=(0, 1))
    ax.legend(frameon=False, fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return fig, f"Bars of the share of guided chains that arrive. {'; '.join(parts)}."


def examples(shown: dict[str, list[Tensor]], people: Gallery) -> plot.Picture:
    """Four plain samples, four of each group, and four individuals, a row for each generator; below, these in truth."""
    blank = torch.ones(4 * (1 + len(GROUPS)), *people.pictures.shape[1:])
    rows = {name: torch.cat([part[:4] for part in parts]) for name, parts in shown.items()}
    rows["truth"] = torch.cat([blank[: max(0, len(next(iter(rows.values()))) - 4)], people.pictures[:4]])
    alt = (
        f"A row of pictures for each of {', '.join(shown)}: four plain samples, four led to each of {', '.join(GROUPS)}, and "
        "four led to individuals, of whom the last row shows true pictures."
    )
    return plot.grid(list(rows.values()), row_labels=list(rows), alt=alt, display=False)
