"""Bits against distortion as a chart: the curve of a denoiser of pixels, and the autoencoders as points beside it.

The region of few bits, where the curve falls steeply, is what a generative model has to learn; the long flat rest is
detail that an autoencoder may drop (Rombach et al., CVPR 2022, figure 2).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from minidiff import plot
from minidiff.evaluation.rate import Point

REGIONS = ("semantic compression", "perceptual compression")


class Dot(NamedTuple):
    """An autoencoder: bits per dimension, RMSE of 255."""

    name: str  # study-kl-f8-c4
    kind: str  # KL
    label: str  # f8 c4
    rate: float
    rmse: float


def draw(points: Sequence[Point], dots: Sequence[Dot]) -> Any:
    """The matplotlib Figure."""
    fig, ax = plot.figure(7.2, 4)
    border, end = points[knee(points)].rate.value, points[-1].rate.value
    for region, ends, colour, hatch in zip(REGIONS, ((0, border), (border, end)), plot.COLOURS[5:], ("//", "")):
        ax.axvspan(*ends, facecolor=colour, edgecolor="white", hatch=hatch, alpha=0.2, linewidth=0, label=region)
    line = plot.style(0) | {"marker": None}
    ax.plot([p.rate.value for p in points], [p.distortion.value for p in points], label="diffusion in pixels", **line)
    for index, kind in enumerate(dict.fromkeys(dot.kind for dot in dots), 1):
        look = plot.style(index) | {"linestyle": "", "markersize": 6}
        ours = [dot for dot in dots if dot.kind == kind]
        ax.plot([dot.rate for dot in ours], [dot.rmse for dot in ours], label=f"{kind} autoencoders", **look)
        for dot in ours:
            ax.annotate(dot.label, (dot.rate, dot.rmse), (4, 4), textcoords="offset points", fontsize="x-small")
    ax.set(xlabel="rate (bits per dimension)", ylabel="distortion (RMSE, of 255)", xlim=(0, None), ylim=(0, None))
    ax.legend(frameon=False, fontsize="small")
    return fig


def describe(points: Sequence[Point], dots: Sequence[Dot]) -> str:
    """Alternative text for `draw`, with the numbers that carry the message."""
    first, border, last = points[0], points[knee(points)], points[-1]
    places = "; ".join(f"{dot.name} needs {dot.rate:.3g} and leaves {dot.rmse:.3g}" for dot in dots)
    return (
        f"Distortion against rate in bits per dimension. The curve of a diffusion model of pixels falls from an RMSE of "
        f"{first.distortion.value:.3g} without any bits to {border.distortion.value:.3g} at {border.rate.value:.3g} bits, the "
        f"region of {REGIONS[0]}, and then slowly to {last.distortion.value:.3g} at {last.rate.value:.3g} bits, the region "
        f"of {REGIONS[1]}." + (f" Autoencoders are points: {places}." if dots else "")
    )


def knee(points: Sequence[Point]) -> int:
    """Where the curve bends most: the point farthest below the straight line between its ends.

    Satopaa et al., "Finding a kneedle in a haystack" (ICDCS workshops, 2011).
    """
    rates, errors = ([estimate.value for estimate in column] for column in list(zip(*points))[1:])
    width, height = rates[-1] - rates[0] or 1.0, errors[0] - errors[-1] or 1.0
    below = [(errors[0] - e) / height - (r - rates[0]) / width for r, e in zip(rates, errors)]
    return below.index(max(below))
