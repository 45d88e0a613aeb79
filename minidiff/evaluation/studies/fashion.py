"""Real sneakers to ankle boots, the way the cats became dogs; there is no true answer here, so likeness stands in for it.

Pictures: Fashion-MNIST's test split (Xiao, Rasul & Vollgraf, 2017), its first sneakers for choosing settings and others
for showing them. What the probe calls a boot is what the table calls a boot; it also says how many real boots pass.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minidiff import zoo
from minidiff.data.fashion import CLASSES, FashionMNIST
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Row, Table
from minidiff.evaluation.studies import charts
from minidiff.evaluation.studies.compare import Case, Comparison, as_rows, compare
from minidiff.evaluation.studies.marks import CROWD, PAIR, ShoeMarker
from minidiff.evaluation.studies.points import TITLES, points, work
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion
from minidiff.nets.probe import Probe
from minidiff.processes import bar

QUICK = {"n": 16, "tuning": 8, "steps": 10, "strengths": (0.5, 1.0), "etas": (0.5,), "split": "subset"}
NAME, SOURCE, TARGET = "sneaker-boot", "sneaker", "ankle-boot"


def study(
    n: int = 500,
    tuning: int = 200,
    steps: int = 30,
    strengths: Sequence[float] = (0.3, 0.5, 0.6, 0.7, 1.0),
    etas: Sequence[float] = (0.1, 1.0),
    sdedit_etas: Sequence[float] = (1.0,),
    refines: Sequence[float] = (0.0,),
    threshold: float = 0.9,  # of real boots the probe lets 96 % pass
    batch: int = 125,
    split: str = "test",
    load: Callable = zoo.load,
) -> Report:
    """The first `tuning` sneakers choose, the next n are shown; a method's point needs `threshold` boots, and of the
    points that have it the one nearest to the source (PSNR) is shown as its best."""
    probe, source, target = load("fashion-probe"), load("fashion-sneaker"), load("fashion-boot")
    size = source.image_shape[-1]
    sneakers, boots = (FashionMNIST(split, classes=(name,), size=size) for name in (SOURCE, TARGET))
    if tuning + n > len(sneakers):
        raise ValueError(f"n, tuning: there are {len(sneakers)} sneakers in {split!r}, got {n} + {tuning}")
    markers = [
        _marker(probe, sneakers[:tuning], boots[:]),
        _marker(probe, sneakers[tuning : tuning + n], boots[:]),
    ]
    case = Case(NAME, source, target, *markers)
    chosen = points(strengths, etas, sdedit_etas, refines)
    total = (n + tuning) * work(chosen, steps)
    with bar(total=total, desc="fashion", unit="call", unit_scale=True) as shown:
        comparison = compare(case, chosen, steps, threshold, batch, shown.update, show=8)
    report = Report(comparison.rows + _limits(target, markers[1], boots[:]), _tables(comparison))
    panels = {"psnr_source": "PSNR to the source (dB)", "success": "share of boots", "frechet": "Frechet distance"}
    report.figures["strength"] = (
        charts.against_strength(comparison, panels),
        charts.describe(comparison, panels, "real sneakers to ankle boots"),
    )
    report.pictures["examples"] = charts.examples(markers[1].images[:8], None, comparison, "sneaker", "ankle boot")
    return report


def _marker(probe: Probe, images: Tensor, boots: Tensor) -> ShoeMarker:
    return ShoeMarker(images, read_all(probe, boots)["features"], probe, CLASSES.index(TARGET), seed=0)


@torch.no_grad()
def _limits(target: LatentDiffusion, marker: ShoeMarker, boots: Tensor) -> list[Row]:
    """To leave the picture as it is; and other real boots, which say how many the probe lets pass."""
    others = boots[: len(marker.images)]
    real = ShoeMarker(others, marker.crowd, marker.probe, marker.target, marker.seed).mark(others)
    kept = {name: real[name] for name in ("success",)}
    return as_rows(f"{NAME}/best/copy", marker.mark(marker.images), 0) + as_rows(f"{NAME}/best/real", kept, 0)


def _tables(comparison: Comparison) -> dict[str, Table]:
    ends = {f"{NAME}/best/copy": TITLES["copy"], f"{NAME}/best/real": "real boots"}
    best = {f"{NAME}/best/{method}": TITLES[method] for method in comparison.best} | ends
    grid = {f"{NAME}/grid/{point.path}": point.title for point in comparison.marks}
    columns = {"success": "boots"} | CROWD | PAIR | {"brightness": "brightness", "seconds": "s", "calls": "calls"}
    return {
        "best": Table(best, {"strength": "strength", "eta": "eta", "refine": "refine"} | columns, "method"),
        "grid": Table(grid, columns, "method"),
    }
