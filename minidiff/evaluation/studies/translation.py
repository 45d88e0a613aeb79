"""Cats to dogs and foxes to dogs, by models that never saw each other's pictures, marked against the true dogs.

Wu & De la Torre, "A latent space of stochastic diffusion models" (ICCV 2023), section 4.1, in a world where the right
answer is known: the same factors drawn as a dog. Sources are Critters with accessories in fashion (15 % glasses, 15 %
hats), so that there are wearers to count: tuning pictures from seed 1, held-out ones from seed 2.
"""

from collections.abc import Callable, Sequence

import torch

from minidiff import zoo
from minidiff.data.critters import COMMON_RATES, Critters, render
from minidiff.data.species import species_index
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Row, Table
from minidiff.evaluation.studies import charts
from minidiff.evaluation.studies.compare import Case, Comparison, as_rows, compare, up_to
from minidiff.evaluation.studies.marks import AGREEMENT, CROWD, FACTORS, PAIR, TRUTH, CritterMarker, crowd_marks
from minidiff.evaluation.studies.points import TITLES, points, work
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion
from minidiff.nets.probe import Probe
from minidiff.processes import bar, shared

TUNING, HELD_OUT = 1, 2  # seeds of Critters
CROWD_STARTS = 1_000_000  # equal indices of two species are counterfactuals: the crowd must be other animals
QUICK = {"n": 16, "tuning": 8, "crowd": 70, "steps": 10, "strengths": (0.5, 1.0), "etas": (0.5,), "cases": ("cat-dog",)}


def study(
    n: int = 500,
    tuning: int = 300,
    crowd: int = 1000,
    steps: int = 30,
    strengths: Sequence[float] = (0.25, 0.3, 0.35, 0.4, 0.6, 1.0),
    highest: float = 0.5,
    etas: Sequence[float] = (0.1, 1.0),
    sdedit_etas: Sequence[float] = (1.0,),
    refines: Sequence[float] = (0.0, 0.05),  # the paper refines cats to dogs at 100 of 1000 steps
    cases: Sequence[str] = ("cat-dog", "wild-dog"),
    threshold: float = 0.98,
    batch: int = 125,
    load: Callable = zoo.load,
) -> Report:
    """n held-out sources and `tuning` others for each case; a method's point needs `threshold` dogs on the others, and of
    the points up to strength `highest` that have it the one nearest to the true dogs (PSNR) is shown as its best."""
    probe = load("critters-probe")
    models = {name: load(f"critters-{name}") for case in cases for name in case.split("-")}
    chosen = points(strengths, etas, sdedit_etas, refines)
    total = len(cases) * (n * work(chosen, steps) + tuning * work(up_to(highest, chosen), steps))
    report = Report()
    with bar(total=total, desc="translation", unit="call", unit_scale=True) as shown:
        for name in cases:
            kind, became = name.split("-")
            marker = {
                seed: _marker(probe, models[kind], kind, became, seed, count, crowd)
                for seed, count in ((TUNING, tuning), (HELD_OUT, n))
            }
            case = Case(name, models[kind], models[became], marker[TUNING], marker[HELD_OUT])
            comparison = compare(case, chosen, steps, threshold, batch, shown.update, 8, highest)
            report.rows += comparison.rows + _limits(name, models[became], marker[HELD_OUT])
            report.tables |= _tables(name, became, comparison)
            _illustrate(report, case, comparison, kind, became)
    return report


def _marker(
    probe: Probe, model: LatentDiffusion, kind: str, became: str, seed: int, n: int, crowd: int
) -> CritterMarker:
    """n sources of one species, their truth as another, and the features of true pictures of other animals of that."""
    size = model.image_shape[-1]
    critters = Critters(kind, length=n, seed=seed, size=size, rates=COMMON_RATES)
    others = Critters(became, length=CROWD_STARTS + crowd, seed=seed, size=size, rates=COMMON_RATES)
    features = read_all(probe, others[CROWD_STARTS:])["features"]
    factors = critters.factors(slice(None))
    truth = render(factors.replace(species=became), size)
    return CritterMarker(critters[:], factors, truth, features, probe, species_index(became), seed)


@torch.no_grad()
def _limits(name: str, target: LatentDiffusion, marker: CritterMarker) -> list[Row]:
    """The two ends of the scale: to leave the picture as it is, and the true answer as the autoencoder can show it."""

    def autoencoded(index: torch.Tensor) -> torch.Tensor:
        return target.to_images(target.to_latents(marker.truth[index].to(target.device))).clamp(-1, 1)

    shown = shared(autoencoded, len(marker.truth), batch=250)
    rows = as_rows(f"{name}/best/copy", marker.mark(marker.images), marker.seed)
    rows += as_rows(f"{name}/best/truth", marker.mark(marker.truth), marker.seed)
    rows += as_rows(f"{name}/best/decoded truth", marker.mark(shown), marker.seed)
    half = len(marker.crowd) // 2  # two halves of the crowd itself: as near as it gets
    return rows + as_rows(f"{name}/crowd", crowd_marks(marker.crowd[:half], marker.crowd[half:]), marker.seed)


def _tables(name: str, became: str, comparison: Comparison) -> dict[str, Table]:
    ends = {f"{name}/best/copy": TITLES["copy"], f"{name}/best/decoded truth": f"true {became}, autoencoded"}
    best = {f"{name}/best/{method}": TITLES[method] for method in comparison.best} | ends
    grid = {f"{name}/grid/{point.path}": point.title for point in comparison.marks}
    success, cost = {"success": f"{became}s"}, {"seconds": "s", "calls": "calls"}
    setting = {"strength": "strength", "eta": "eta", "refine": "refine"}
    factors = {factor: factor for factor in FACTORS} | AGREEMENT
    columns = success | CROWD | TRUTH | PAIR
    return {
        f"{name}-best": Table(best, setting | columns | cost, "method"),
        f"{name}-factors": Table(best, success | factors, "method"),
        f"{name}-grid": Table(grid, columns | factors | cost, "method"),
    }


def _illustrate(report: Report, case: Case, comparison: Comparison, kind: str, became: str) -> None:
    sources, truth = case.held_out.images[:8], case.held_out.truth[:8]
    panels = {
        "psnr_truth": f"PSNR to the true {became} (dB)",
        "success": f"share of {became}s",
        "frechet": "Frechet distance",
    }
    report.pictures[case.name] = charts.examples(sources, truth, comparison, kind, became)
    report.figures[f"{case.name}-strength"] = (
        charts.against_strength(comparison, panels),
        charts.describe(comparison, panels, f"{kind} to {became}"),
    )
    report.figures[f"{case.name}-factors"] = (
        charts.factor_bars(comparison, tuple(FACTORS)),
        charts.describe_bars(comparison, tuple(FACTORS)),
    )
