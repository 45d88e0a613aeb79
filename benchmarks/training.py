"""A training step beside diffusers, smalldiffusion and denoising-diffusion-pytorch, where those are installed.

Each with its own network of about as many parameters, its own noise and loss, on latents of one shape, with the same AdamW.
Memory is kept between our steps, as `minidiff train` keeps it, and not between theirs: it is a part of what is compared.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch

from benchmarks import clock, peers
from minidiff import zoo
from minidiff.evaluation.results import Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.fast.learning import quick_layers
from minidiff.fast.memory import kept_memory
from minidiff.generators import LatentDiffusion

STEPS = 5  # in a row, as in training: the first finds memory as others left it
QUICK = {"batches": (2,), "budget": 0.5}


def measure(
    name: str = "critters-cat",
    batches: Sequence[int] = (8, 32, 128),
    budget: float = 40.0,
    load: Callable = zoo.load,
) -> Report:
    model = load(name, device=clock.best_device())
    channels, side = model.latent_shape[:2]
    size = peers.parameters(model.denoiser.net)
    everyone = {"minidiff": ours(model)} | dict(peers.rivals(size, channels, side))
    rows = [row(f"parameters/{who}", peers.parameters(rival.net), "parameters", 0) for who, rival in everyone.items()]
    for batch in batches:
        memory = dict.fromkeys(everyone, nullcontext) | {"minidiff": kept_memory}  # as `minidiff train` does
        run = {who: stepper(rival, model, batch, STEPS, memory[who]) for who, rival in everyone.items()}
        times = {who: t / STEPS for who, t in clock.seconds(run, budget=budget).items()}
        rows += [row(f"rate/batch {batch}/{who}", clock.median(batch / t), "pictures/s", 0) for who, t in times.items()]
        for who in list(everyone)[1:]:
            gain = clock.median(times[who] / times["minidiff"])
            rows.append(row(f"gain/batch {batch}/{who}", gain, "times", 0))
    columns = {who: who for who in everyone}
    rates = {f"rate/batch {n}": f"{n}: pictures a second" for n in batches}
    gains = {f"gain/batch {n}": f"{n}: minidiff is so many times as fast" for n in batches}
    return Report(rows, {"training": Table({"parameters": "parameters"} | rates | gains, columns, "batch")})


def ours(model: LatentDiffusion) -> peers.Rival:
    denoiser = peers.copy_of(model.denoiser)

    def loss(x0: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        t = torch.randint(denoiser.schedule.T, (len(x0),), device=x0.device)
        with quick_layers(denoiser.net):  # as `minidiff train` does
            return denoiser.loss(x0, eps, t).mean()

    return peers.Rival(denoiser, loss)


def stepper(
    rival: peers.Rival, model: LatentDiffusion, batch: int, steps: int = 1, memory: Callable = nullcontext
) -> Callable[[], None]:
    """So many steps of training, one after the other, on latents that are there already."""
    net = rival.net.train().to(model.device)
    adam = torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True)
    x0 = torch.randn(batch, *model.latent_shape, device=model.device)

    def run() -> None:
        with memory():
            for _ in range(steps):
                rival.loss(x0, torch.randn_like(x0)).backward()
                adam.step()
                adam.zero_grad()

    return run
