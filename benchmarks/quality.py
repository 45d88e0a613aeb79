"""Time to equal quality: how soon does each solver get to the Frechet distance that 50 steps of DDIM reach?

Distances are to true pictures of the same species, on the probe's features, all from the same starts; a solver has arrived
at the fewest steps whose distance is at most 2 % above that of 50 steps of DDIM at eta = 0. Seconds are those of sampling
at batch 64, beside diffusers' pipeline with its 50 steps on the same weights.
"""

from collections.abc import Callable, Sequence

from benchmarks import clock, peers
from minidiff import zoo
from minidiff.data.critters import Critters
from minidiff.evaluation.metrics import frechet_distance
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion

QUICK = {"n": 70, "steps": (2, 3), "reference": 3, "solvers": ("ddim", "dpm++2m"), "batch": 2, "budget": 0.5}
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
}


def measure(
    name: str = "critters-cat",
    n: int = 1000,
    steps: Sequence[int] = (4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100),
    reference: int = 50,
    solvers: Sequence[str] = tuple(SOLVERS),
    batch: int = 64,
    budget: float = 20.0,
    load: Callable = zoo.load,
) -> Report:
    model, probe = load(name, device=clock.best_device()), load("critters-probe", device=clock.best_device())
    species = name.removeprefix("critters-")
    true = read_all(probe, Critters(species, length=n, seed=TRUE_SEED, size=model.image_shape[-1])[:].to(model.device))
    unit = true["features"].std(0).square().mean().sqrt()

    def distance(settings: dict, count: int) -> float:
        images = model.replace(**settings, steps=count).sample(n, fast=True)
        return frechet_distance(read_all(probe, images)["features"] / unit, true["features"] / unit)

    goal = distance(SOLVERS["ddim"], reference)
    rows = [row(f"goal/ddim {reference}", goal, "distance", 0, n)]
    pipe = peers.sampler(model.replace(eta=0.0))
    theirs = lambda: pipe(batch_size=batch, num_inference_steps=reference, output_type="np")  # noqa: E731
    for solver in solvers:
        settings, reached = SOLVERS[solver], None
        for count in steps:
            found = distance(settings, count)
            rows.append(row(f"curve/{solver}/{count}", found, "distance", 0, n))
            if found <= SLACK * goal:
                reached = model.replace(**settings, steps=count)
                break
        if reached is not None:
            rows += arrived(reached, solver, found, theirs, reference, batch, budget)
    columns = {
        "steps": "steps",
        "calls": "network calls",
        "distance": "Frechet distance",
        "seconds": "ms a picture, fast",
        "gain": f"times as fast as diffusers' {reference} steps",
        "plain gain": "the same, not fast",
    }
    return Report(rows, {"arrival": Table({f"arrival/{solver}": solver for solver in solvers}, columns, "solver")})


def arrived(
    model: LatentDiffusion, solver: str, found: float, theirs: Callable, reference: int, batch: int, budget: float
) -> list:
    """What it costs to get there, beside diffusers."""
    functions = {
        "fast": lambda: model.sample(batch, batch=batch, fast=True),
        "plain": lambda: model.sample(batch, batch=batch),
        "diffusers": theirs,
    }
    times = clock.seconds(functions, budget=budget)
    path = f"arrival/{solver}"
    return [
        row(f"{path}/steps", model.steps, "calls", 0),
        row(f"{path}/calls", model.calls, "calls", 0),
        row(f"{path}/distance", found, "distance", 0),
        row(f"{path}/seconds", clock.median(1e3 * times["fast"] / batch), "ms", 0),
        row(f"{path}/gain", clock.median(times["diffusers"] / times["fast"]), "times", 0),
        row(f"{path}/plain gain", clock.median(times["diffusers"] / times["plain"]), "times", 0),
    ]
