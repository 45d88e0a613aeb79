"""Guidance at equal cost: so many network calls a chain, whatever the generator, and a step size chosen on other chains."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minidiff.energies import Energy
from minidiff.evaluation.intervals import Estimate
from minidiff.evaluation.studies.marks import Mark, Marks
from minidiff.generators import Generator, chunks
from minidiff.guide import guide, in_fewer_steps
from minidiff.langevin import ChainStopped

Steer = Callable[[slice], Energy]  # the energy of those chains


def looks(model: Generator, calls: int, gradient_steps: int, candidates: int = 1) -> tuple[int, int | None]:
    """How many Langevin steps `calls` network calls a chain pay for, and the sampler's steps in each (None: as it is).

    So do the `candidates` for its start. The gradient's way back is not counted, in any family. Raises ValueError when not
    even one step can be paid.
    """
    fewer = gradient_steps if getattr(model, "eta", None) == 0 and model.steps > gradient_steps else None
    each = in_fewer_steps(model, fewer).calls
    least = 2 + (candidates if candidates > 1 else 0)
    if calls < least * each:
        raise ValueError(
            f"calls: expected at least {least * each} for {least} looks of {each} network calls, got {calls}"
        )
    return calls // each - least + 1, fewer


def steered(
    model: Generator,
    energy: Energy | Steer,
    count: int,
    calls: int,
    gradient_steps: int,
    step_size: float,
    seeds: int,
    candidates: int = 1,
    last_step_size: float | None = None,
    batch: int = 50,
) -> tuple[Tensor, Marks]:
    """The pictures (count, C, H, W) where the chains end, and the network calls and seconds of one.

    Chains that fail with the energy of a batch end at their last good state.
    """
    steps, fewer = looks(model, calls, gradient_steps, candidates)
    settings = {"gradient_steps": fewer, "candidates": candidates, "last_step_size": last_step_size}
    images, start = [], time.perf_counter()
    for index in chunks(count, batch):
        index = slice(index.start, min(index.stop, count))
        size = index.stop - index.start
        wanted = energy if isinstance(energy, Energy) else energy(index)
        try:
            for last in guide(model, wanted, size, steps, step_size, seeds=seeds + index.start, **settings):
                state = last
        except ChainStopped as stopped:
            if stopped.state is None:
                raise
            state = stopped.state
        images.append(state.images().clamp(-1, 1).cpu())
    each = in_fewer_steps(model, fewer).calls
    spent = calls // each * each
    seconds = Estimate((time.perf_counter() - start) / count, None, count)
    costs = {"calls": Mark(Estimate(spent, None, count), "calls"), "seconds": Mark(seconds, "s")}
    return torch.cat(images), costs


def best_of(sizes: Sequence[float], worth: Callable[[float], float]) -> float:
    """The step size of most worth; the only one is not tried."""
    return sizes[0] if len(sizes) == 1 else max(sizes, key=worth)
