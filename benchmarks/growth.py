"""How the time of sampling grows: with the batch, the number of steps and the side of the picture."""

import math
from collections.abc import Callable, Sequence

from benchmarks import clock
from minidiff import zoo
from minidiff.evaluation.results import Row, Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion

QUICK = {"batches": (1, 2), "steps": (1, 2), "sides": (64, 128), "budget": 0.5}
WAYS = {"plain": "minidiff", "fast": "minidiff, fast"}


def measure(
    name: str = "critters-cat",
    batches: Sequence[int] = (1, 4, 16, 64, 256),
    steps: Sequence[int] = (5, 10, 20, 50),
    sides: Sequence[int] = (64, 96, 128, 192, 256),
    budget: float = 10.0,
    load: Callable = zoo.load,
) -> Report:
    """Batches and sides are sampled in 5 steps at most, steps at batch 4, sides at batch 1."""
    model = load(name, device=clock.best_device()).replace(eta=0.0, steps=min(5, max(steps)))
    rows, lines = [], {}
    points = {
        "batch": {n: (model, n) for n in batches},
        "steps": {n: (model.replace(steps=n), 4) for n in steps},
        "side": {n: (model.replace(image_shape=(model.image_shape[0], n, n)), 1) for n in sides},
    }
    for what, cases in points.items():
        for value, (case, batch) in cases.items():
            rows += at(f"{what}/{value}", case, batch, budget)
            lines[f"{what}/{value}"] = f"{what} {value}"
        lines[f"{what}/exponent"] = f"{what}: exponent"
        rows += [row(f"{what}/exponent/{way}", exponent(rows, what, way, cases), "power", 0) for way in WAYS]
    return Report(rows, {"growth": Table(lines, WAYS, "ms a sample of the batch")})


def at(path: str, model: LatentDiffusion, batch: int, budget: float) -> list[Row]:
    functions = {way: lambda way=way: model.sample(batch, batch=batch, fast=way == "fast") for way in WAYS}
    times = clock.seconds(functions, budget=budget)
    return [row(f"{path}/{way}", clock.median(1e3 * t), "ms", 0) for way, t in times.items()]


def exponent(rows: Sequence[Row], what: str, way: str, cases: Sequence[int]) -> float:
    """p in time ~ value^p, from the last two of the cases."""
    values = {r.name: r.value for r in rows}
    a, b = sorted(cases)[-2:]
    return math.log(values[f"{what}/{b}/{way}"] / values[f"{what}/{a}/{way}"]) / math.log(b / a)
