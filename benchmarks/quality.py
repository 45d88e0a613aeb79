"""Time to equal quality: how soon does each solver get to the Frechet distance that 50 steps of DDIM reach?

Distances are to true pictures of the same species, on the probe's features, all from the same starts; a solver has arrived
at the fewest steps whose distance is at most 2 % above that of 50 steps of DDIM at eta = 0, if it needs no more than 50.
Seconds are those of sampling at batch 64, beside diffusers' pipeline with its 50 steps on the same weights.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache, partial

from benchmarks import clock, peers
from minidiff import zoo
from minidiff.data.critters import Critters
from minidiff.evaluation.metrics import frechet_distance
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Row, Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion

QUICK = {"n": 16, "steps": (2, 3), "reference": 3, "solvers": ("ddim", "dpm++2m"), "batch": 2, "budget": 0.5}
SLACK = 1.02
TRUE_SEED = 2  # of pictures that no model was trained on
SOLVERS = {  # name -> settings of the model
    "ddim": {"sampler": "ddim", "eta": 0.0},
    "heun": {"sampler": "heun", "spacing": "karras"},
    "dpm++2m": {"sampler": "dpm++2m"},
    "dpm++2m karras": {"sampler": "dpm++2m", "spacing": "karras"},
    "unipc": {"sampler": "unipc"},
    "unipc karras": {"sampler": "unipc", "spacing": "karras"},
    "ddim eta 0.1": {"sampler": "ddim", "eta": 0.1},
    "ddpm": {"sampler": "ddpm"},
    "dpm++2m_sde": {"sampler": "dpm++2m_sde"},
    "dpm++2m_sde karras": {"sampler": "dpm++2m_sde", "spacing": "karras"},
}


def measure(
    name: str = "critters-cat",
    n: int = 400,
    steps: Sequence[int] = (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 20, 25, 30, 40, 50),
    reference: int = 50,
    solvers: Sequence[str] = tuple(SOLVERS),
    batch: int = 64,
    budget: float = 60.0,
    load: Callable = zoo.load,
) -> Report:
    model, probe = load(name, device=clock.best_device()), load("critters-probe", device=clock.best_device())
    species = name.removeprefix("critters-")
    true = read_all(probe, Critters(species, length=n, seed=TRUE_SEED, size=model.image_shape[-1])[:].to(model.device))
    unit = true["features"].std(0).square().mean().sqrt()

    @cache
    def distance(solver: str, count: int) -> float:
        images = model.replace(**SOLVERS[solver], steps=count).sample(n, fast=True)
        return frechet_distance(read_all(probe, images)["features"] / unit, true["features"] / unit)

    goal = distance("ddim", reference)
    rows, arrived = [row(f"goal/ddim {reference}", goal, "distance", 0, n)], {}
    for solver in solvers:
        if (count := fewest(steps, lambda count, solver=solver: distance(solver, count) <= SLACK * goal)) is not None:
            arrived[solver] = model.replace(**SOLVERS[solver], steps=count), distance(solver, count)
    pipe = peers.sampler(model.replace(eta=0.0))
    rows += beside(
        lambda: pipe(batch_size=batch, num_inference_steps=reference, output_type="np"), arrived, batch, budget
    )
    columns = {
        "steps": "steps",
        "calls": "network calls",
        "distance": "Frechet distance",
        "seconds": "ms a picture, fast",
        "gain": f"times as fast as diffusers' {reference} steps",
        "plain gain": "the same, not fast",
    }
    lines = {f"arrival/{solver}": solver for solver in solvers} | {"best": "the soonest"}
    return Report(rows, {"arrival": Table(lines, columns, "solver")})


def fewest(steps: Sequence[int], good: Callable[[int], bool]) -> int | None:
    """The smallest of rising numbers of steps that is good, found by halving: where one is, all above it should be."""
    place = bisect_left(steps, True, key=good)
    return steps[place] if place < len(steps) else None


def beside(theirs: Callable, arrived: dict[str, tuple[LatentDiffusion, float]], batch: int, budget: float) -> list[Row]:
    """What it costs each solver to get to its distance, beside diffusers; "best" is the one that is there first, when fast."""
    functions = {"diffusers": theirs}
    for solver, (model, _) in arrived.items():
        for fast in (False, True):
            functions[solver, fast] = partial(model.sample, batch, batch=batch, fast=fast)
    times, rows, best = clock.seconds(functions, budget=budget), [], None
    for solver, (model, distance) in arrived.items():
        gain, plain = (clock.median(times["diffusers"] / times[solver, fast]) for fast in (True, False))
        found = {"steps": (model.steps, "calls"), "calls": (model.calls, "calls"), "distance": (distance, "distance")}
        found["seconds"] = clock.median(1e3 * times[solver, True] / batch), "ms"
        found |= {"gain": (gain, "times"), "plain gain": (plain, "times")}
        rows += [row(f"arrival/{solver}/{what}", value, unit, 0) for what, (value, unit) in found.items()]
        if best is None or gain.value > best["gain"][0].value:
            best = found
    return rows + [row(f"best/{what}", value, unit, 0) for what, (value, unit) in (best or {}).items()]
