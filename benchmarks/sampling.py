"""Pictures a second beside diffusers' pipeline, on the same weights and steps; and how much of the time is the network.

"diffusers" is its pipeline around our networks; "diffusers' own network" the same pipeline around its UNet2DModel of as
many parameters. What of a sample's time is not the network's calls is the loop's: noise, transitions, Python. Both are left
out at the largest batch, where they would take minutes to say the same.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from benchmarks import clock, peers
from benchmarks.calls import CONFIGS, call
from minidiff import zoo
from minidiff.evaluation.results import Row, Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.fast import hurry
from minidiff.generators import LatentDiffusion

QUICK = {"batches": (1, 2), "steps": 2, "budget": 0.5}
LARGE = 64  # no more at once for the network of diffusers and for the loop
WAYS = CONFIGS | {"diffusers": "diffusers", "network": "diffusers' own network"}
GAINS = {
    f"{way} to {rival}": f"{CONFIGS[way]} to {WAYS[rival]}" for way in CONFIGS for rival in ("diffusers", "network")
}


def measure(
    name: str = "critters-cat",
    batches: Sequence[int] = (1, 16, 64, 256),
    steps: int = 50,
    budget: float = 40.0,
    load: Callable = zoo.load,
) -> Report:
    """`budget` is about how many seconds each batch size may take. eta is 0: noise is drawn once, by all alike."""
    model = load(name, device=clock.best_device()).replace(steps=steps, eta=0.0)
    own = peers.equal_unet(model)
    channels, side = model.latent_shape[:2]
    rows = []
    for way, net in (("plain", model.denoiser.net), ("network", peers.Answer(own))):
        rows.append(row(f"parameters/{way}", peers.parameters(net), "parameters", 0))
        work = peers.flops(peers.copy_of(net).cpu(), channels, side)
        rows.append(row(f"work/{way}", work / 1e6, "MFLOP", 0))
    pipes = {"diffusers": peers.sampler(model), "network": peers.sampler(model, own)}
    for batch in batches:
        rows += at_batch(model, pipes, batch, budget)
    return Report(rows, tables(batches))


def at_batch(model: LatentDiffusion, pipes: dict[str, Any], batch: int, budget: float) -> list[Row]:
    def draw(way: str) -> Callable[[], Any]:
        if way in pipes:
            return lambda: pipes[way](batch_size=batch, num_inference_steps=model.steps, output_type="np")
        return lambda: model.sample(batch, batch=batch, fast=way == "fast")

    ways = [way for way in WAYS if way != "network" or batch <= LARGE]
    times = clock.seconds({way: draw(way) for way in ways}, budget=budget)
    rows = [row(f"rate/batch {batch}/{way}", clock.median(batch / t), "pictures/s", 0) for way, t in times.items()]
    for gain in GAINS:
        way, rival = gain.split(" to ")
        if rival in times:
            rows.append(row(f"gain/batch {batch}/{gain}", clock.median(times[rival] / times[way]), "times", 0))
    if batch <= LARGE:
        rows += [outside(model, way, batch, budget) for way in (CONFIGS if model.device.type == "cpu" else ("plain",))]
    return rows


@torch.no_grad()
def outside(model: LatentDiffusion, way: str, batch: int, budget: float) -> Row:
    """The share of the time of sampling latents that is not the network's."""
    levels = tuple(step.t for step in model.grid)
    plain, alone = nullcontext((None, [model], batch, map)), call(model, way, batch, levels)
    with hurry(None, [model], batch) if way == "fast" else plain as (_, (chosen,), rows, each):

        def decode(seeds: torch.Tensor) -> None:
            chosen.decode_latents(chosen.random_code(len(seeds), seeds))

        def loop() -> None:
            list(each(decode, torch.arange(batch, device=model.device).split(rows)))

        times = clock.seconds({"loop": loop, "calls": alone}, budget=budget / 4)
    return row(f"outside/batch {batch}/{way}", clock.median(1 - times["calls"] / times["loop"]), "share", 0)


def tables(batches: Sequence[int]) -> dict[str, Table]:
    def of(kind: str, columns: dict[str, str], corner: str) -> Table:
        return Table({f"{kind}/batch {n}": str(n) for n in batches}, columns, corner)

    return {
        "rate": of("rate", WAYS, "batch: pictures a second"),
        "gain": of("gain", GAINS, "batch: how many times as fast"),
        "outside": of("outside", CONFIGS, "batch: time outside the network"),
        "size": Table(
            {"parameters": "parameters", "work": "MFLOP of a call"}, {"plain": "minidiff", "network": "diffusers' own"}
        ),
    }
