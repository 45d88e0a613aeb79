"""A fair comparison of translation methods: each chooses its setting on tuning pictures, all are shown on others.

A setting qualifies when enough of the tuning pictures become what they should; of those that do, the best by a stated
criterion is the method's operating point. Without one it is the most successful setting.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from minidiff.evaluation import results
from minidiff.evaluation.intervals import Estimate, mean
from minidiff.evaluation.metrics import psnr
from minidiff.evaluation.results import Row
from minidiff.evaluation.studies.marks import Mark, Marker, Marks
from minidiff.evaluation.studies.points import Outcome, Point, run_all
from minidiff.generators import LatentDiffusion


@dataclass(frozen=True)
class Case:
    """One translation task."""

    name: str  # cat-dog
    source: LatentDiffusion
    target: LatentDiffusion
    tuning: Marker
    held_out: Marker


@dataclass
class Comparison:
    """Held-out marks of every point, each method's operating point, and a few of its pictures."""

    rows: list[Row]
    marks: dict[Point, Marks]
    best: dict[str, Point]
    shown: dict[str, Tensor]  # method -> the first pictures at its operating point


def compare(
    case: Case,
    points: Sequence[Point],
    steps: int,
    threshold: float,
    batch: int,
    done: Callable[[int], None],
    show: int,
    highest: float = 1.0,
) -> Comparison:
    """Run the points up to strength `highest` on the tuning pictures, choose, run every point on the held-out ones.

    `done` hears about each network call (a picture once through one network).
    """

    def outcomes(marker: Marker, points: Sequence[Point]) -> Iterator[tuple[Point, Outcome]]:
        return run_all(case.source, case.target, marker.images, points, steps, batch, done)

    low = up_to(highest, points)
    tuning = {point: case.tuning.verdict(outcome.images) for point, outcome in outcomes(case.tuning, low)}
    best = choose(tuning, case.tuning.success, case.tuning.criterion, threshold)
    marks, nearness, shown, rows = {}, {}, {}, []
    for point, outcome in outcomes(case.held_out, points):
        marks[point] = case.held_out.mark(outcome.images) | cost(outcome)
        if hasattr(case.held_out, "truth"):
            nearness[point] = psnr(outcome.images, case.held_out.truth)
        if point == best[point.method]:
            shown[point.method] = outcome.images[:show].clone()

    for stage, measured, seed in (("tuning", tuning, case.tuning.seed), ("grid", marks, case.held_out.seed)):
        for point, values in measured.items():
            rows += as_rows(f"{case.name}/{stage}/{point.path}", values, seed)
    for method, point in best.items():
        path, seed = f"{case.name}/best/{method}", case.held_out.seed
        chosen = [results.row(f"{path}/{key}", getattr(point, key), "", seed) for key in ("strength", "eta", "refine")]
        rows += chosen + as_rows(path, marks[point], seed)
    rows += ahead(case, nearness, best)
    return Comparison(rows, marks, best, shown)


def up_to(highest: float, points: Sequence[Point]) -> list[Point]:
    """The points of a strength at which a method may choose to work."""
    return [point for point in points if point.strength <= highest]


def choose(tuning: dict[Point, Marks], success: str, criterion: str, threshold: float) -> dict[str, Point]:
    """Each method's operating point, by the criterion among the settings whose success reaches the threshold."""
    best = {}
    for method in dict.fromkeys(point.method for point in tuning):

        def rank(point: Point) -> tuple[float, float]:
            reached, quality = (tuning[point][name].estimate.value for name in (success, criterion))
            return min(reached, threshold), quality  # enough is enough: above the threshold quality decides

        best[method] = max((point for point in tuning if point.method == method), key=rank)
    return best


def ahead(case: Case, nearness: dict[Point, Tensor], best: dict[str, Point]) -> list[Row]:
    """How many dB CycleDiffusion is nearer to the truth than each rival, picture by picture: at each one's best, and at
    equal strength (against the rival's best eta there)."""
    rows, seed = [], case.held_out.seed
    if not nearness:
        return rows
    ours = [point for point in nearness if point.method == "cyclediffusion"]
    for rival in dict.fromkeys(point.method for point in nearness if point.method != "cyclediffusion"):
        gap = nearness[best["cyclediffusion"]] - nearness[best[rival]]
        rows.append(results.row(f"{case.name}/ahead/{rival}/best/psnr_truth", mean(gap), "dB", seed))
        for point in ours:
            theirs = [nearness[p] for p in nearness if p.method == rival and p.strength == point.strength]
            gap = nearness[point] - max(theirs, key=lambda values: values.mean())
            rows.append(results.row(f"{case.name}/ahead/{rival}/{point.setting}/psnr_truth", mean(gap), "dB", seed))
    return rows


def as_rows(path: str, marks: Marks, seed: int) -> list[Row]:
    return [results.row(f"{path}/{name}", mark.estimate, mark.unit, seed) for name, mark in marks.items()]


def cost(outcome: Outcome) -> Marks:
    """Seconds and network calls a picture."""
    n = len(outcome.images)
    return {
        "seconds": Mark(Estimate(outcome.seconds, None, n), "s"),
        "calls": Mark(Estimate(outcome.calls, None, n), "calls"),
    }
