"""What `minidiff guide` does: a chain under a progress bar, kept in a file, so that a stopped one goes on where it was."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from minidiff.energies import Energy
from minidiff.generators import Generator
from minidiff.guide import guide
from minidiff.langevin import LangevinStep
from minidiff.plot import grid
from minidiff.training.checkpoint import load, save

EVERY = 10  # steps: what a killed run loses at most


@dataclass(frozen=True)
class Outcome:
    """The chains before and after, and which share of the steps was accepted (since the run last started)."""

    first: LangevinStep
    last: LangevinStep
    acceptance: float


def run(model: Generator, energy: Energy, out: Path, facts: dict, resume: bool = True, **settings: Any) -> Outcome:
    """Guide and write the pictures of the start and the end, above each other, into the PNG `out`.

    settings: arguments of `guide`, all JSON-able; with `facts`, such as the model's name, they tell one run from another.
    The chain is kept in `out` with ".chain" behind it until it is done, and goes on from there.
    Raises ValueError when another run is kept there.
    """
    kept, facts = out.with_name(out.name + ".chain"), {**facts, **settings, "energy": str(energy)}
    code, start = read(kept, facts) if resume and kept.exists() else (None, 0)
    first = last = next(guide(model, energy, **settings))
    code = first.code if code is None else code.to(first.code.device)
    moved = []
    with closing(keep(guide(model, energy, code=code, start=start, **settings), kept, facts)) as chain:
        for state in show(chain):
            last = state
            moved.append(state.accepted)
    rows = {"start": first.images(), "end": last.images()}
    grid(list(rows.values()), alt=f"Pictures guided by {energy}.", row_labels=list(rows), display=False).save(out)
    kept.unlink()
    return Outcome(first, last, torch.stack(moved[1:] or moved).float().mean().item())


def keep(chain: Iterator[LangevinStep], path: Path, facts: dict) -> Iterator[LangevinStep]:
    """Pass a chain's states on and write the latest into `path`: every EVERY steps, and however it ends."""
    state = written = None
    try:
        for state in chain:
            if state.step % EVERY == 0:
                save(path, {"code": state.code}, facts | {"step": state.step})
                written = state
            yield state
    finally:
        if state is not written:
            save(path, {"code": state.code}, facts | {"step": state.step})


def read(path: Path, facts: dict) -> tuple[Tensor, int]:
    """The code and the step that `keep` wrote. Raises ValueError for a run with other facts."""
    tensors, then = load(path)
    step = then.pop("step")
    if changed := sorted(name for name in facts.keys() | then.keys() if facts.get(name) != then.get(name)):
        ours, theirs = ({name: values.get(name) for name in changed} for values in (facts, then))
        raise ValueError(f"resume: {path} holds a run with {theirs}, not {ours}; start anew (--no-resume) or elsewhere")
    return tensors["code"], step


def show(chain: Iterator[LangevinStep]) -> Iterator[LangevinStep]:
    """A progress bar with the mean weighted energy and the mean prior; it appears on the terminal or not at all."""
    with tqdm(desc="guide", unit="step", delay=2, leave=False) as bar:
        for state in chain:
            bar.total, bar.n = state.total, state.step
            bar.set_postfix(energy=f"{state.energy.mean():.4g}", prior=f"{state.prior.mean():.4g}", refresh=False)
            bar.update(0)
            yield state


def report(energy: Energy, done: Outcome, adjusted: bool) -> Iterator[str]:
    """A line for each energy, before its weight, and one for the prior: means at the start and at the end."""
    first, last = done.first, done.last
    for term, before, after in zip(energy.terms, first.parts.mean(0), last.parts.mean(0), strict=True):
        yield f"{term}: mean E {before:.4g} at the start, {after:.4g} at the end"
    usual = first.code[0].count_nonzero().item() / 2  # half of a chi-squared's mean
    yield f"0.5 |code|^2: {first.prior.mean():.5g} at the start, {last.prior.mean():.5g} at the end; {usual:g} is usual"
    if adjusted:
        yield f"Accepted {done.acceptance:.0%} of the steps"
