"""The charts of the study of codes: factors over eta, over the parts of a code, over training; the blocks' spreads."""

from collections.abc import Sequence
from typing import Any

from minidiff import plot
from minidiff.evaluation.results import Row
from minidiff.evaluation.studies.common_space import marks_of
from minidiff.evaluation.studies.marks import FACTORS

PARTS = ("start", "early", "middle", "late")
Figures = dict[str, tuple[Any, str]]


def figures(rows: Sequence[Row], etas, parts_etas, measured, trained) -> Figures:
    """Charts by name, each with its alternative text."""
    made = {"eta": over(rows, {eta: f"eta {eta:g}" for eta in etas}, "eta")}
    for eta in parts_etas:
        made[f"parts-{eta:g}"] = of_parts(rows, eta)
    if measured:
        made["blocks"] = of_blocks(rows, measured)
    if trained:
        made["training"] = over(rows, {step: f"training/{step}" for step in trained}, "steps of training")
    return made


def over(rows: Sequence[Row], paths: dict[float, str], label: str) -> tuple[Any, str]:
    """Each factor's correlation across all pairs, over eta or steps; grey: the codes shuffled."""
    fig, ax = plot.figure(7, 3.6)
    places, parts = list(paths), []
    for index, name in enumerate(FACTORS):
        values = [marks_of(rows, f"{path}/all pairs", [name])[0] for path in paths.values()]
        ax.plot(places, values, label=name, **plot.style(index))
        parts.append(f"{name} " + ", ".join(f"{value:.2f} at {place:g}" for value, place in zip(values, places)))
        chance = [marks_of(rows, f"{path}/shuffled", [name])[0] for path in paths.values()]
        ax.plot(places, chance, color="grey", linewidth=0.6, label="shuffled" if index == 0 else None)
    ax.set(xlabel=label, ylabel="correlation across models")
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return (
        fig,
        f"Curves of each factor's correlation across models over {label}: {'; '.join(parts)}. Shuffled codes: grey.",
    )


def of_parts(rows: Sequence[Row], eta: float) -> tuple[Any, str]:
    """Groups of bars: a factor each, a bar for each part of the code that is kept; left within a model, right across two."""
    fig, axes = plot.figure(9, 3.4, ncols=2, sharey=True)
    width, parts = 0.8 / len(PARTS), []
    for ax, (to, title) in zip(axes, {"within": "within one model", "across": "on to the other model"}.items()):
        for index, part in enumerate(PARTS):
            values = marks_of(rows, f"parts/eta {eta:g}/{to}/{part}", tuple(FACTORS))
            places = [i + (index - 1.5) * width for i in range(len(FACTORS))]
            look = {"color": plot.COLOURS[index], "hatch": ("", "//", "..", "xx")[index], "edgecolor": "white"}
            ax.bar(places, values, width, label=part, linewidth=0.5, **look)
            words = ", ".join(f"{name} {value:.2f}" for name, value in zip(FACTORS, values))
            parts.append(f"{title}, {part} kept: {words}")
        ax.set_xticks(range(len(FACTORS)), list(FACTORS), rotation=40, ha="right")
        ax.set(title=title)
        ax.axhline(0, color="black", linewidth=0.6)
    axes[0].set(ylabel="correlation with the whole code's")
    fig.legend(
        *axes[0].get_legend_handles_labels(), frameon=False, fontsize="small", ncols=4, loc="outside lower center"
    )
    return fig, f"Bars of the correlation that a part of the code keeps at eta {eta:g}. {'; '.join(parts)}."


def of_blocks(rows: Sequence[Row], etas: Sequence[float]) -> tuple[Any, str]:
    """The std of each block of encoded pictures, and what the ideal denoiser of a Gaussian would leave there."""
    fig, ax = plot.figure(7, 3.4)
    found, parts = {row.name: row.value for row in rows}, []
    for index, eta in enumerate(etas):
        path, k = f"statistics/eta {eta:g}", 0
        values, ideal = [], []
        while (name := f"{path}/block {k}") + "/std" in found:
            values.append(found[f"{name}/std"])
            ideal.append(found.get(f"{name}/ideal", 1.0))
            k += 1
        look = plot.style(index) | {"markersize": 3}
        ax.plot(range(k), values, label=f"eta {eta:g}", **look)
        ax.plot(range(k), ideal, color=look["color"], linewidth=0.6, label="ideal" if index == 0 else None)
        parts.append(f"at eta {eta:g} from {values[0]:.2f} over {values[k // 2]:.2f} in the middle to {values[-1]:.2f}")
    ax.set(xlabel="block of the code", ylabel="std", yscale="log")
    ax.legend(frameon=False, fontsize="small")
    return fig, f"Curves of the std of each block of the codes of true pictures: {'; '.join(parts)}."
