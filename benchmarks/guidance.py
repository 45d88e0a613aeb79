"""Guidance: how long a batch of Langevin chains takes, and how the memory of the way back through a sampler grows with it.

Memory is measured in a process of its own for each case, less what it held once its networks were loaded. Recomputed, as
`decode` does for a code that asks for a gradient, a step is run again on the way back instead of being remembered.
"""

import json
import sys
from collections.abc import Callable, Sequence

import torch

from benchmarks import clock
from benchmarks.memory import called, most_of
from minidiff import energies, zoo
from minidiff.evaluation.intervals import Estimate
from minidiff.evaluation.results import Row, Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.guide import guide

QUICK = {"chains": 2, "steps": 2, "langevin": 1, "chain_steps": (1, 2), "batch": 1}
WORDS = "a cat wearing glasses"


def measure(
    name: str = "critters-latents",
    chains: int = 16,
    steps: int = 20,
    langevin: int = 100,
    copies: int = 8,
    chain_steps: Sequence[int] = (5, 50),
    batch: int = 16,
    load: Callable = zoo.load,
) -> Report:
    """`langevin` steps of `chains` chains towards WORDS through a sampler of `steps`; memory at each of `chain_steps`."""
    rows, few, many = [], min(chain_steps), max(chain_steps)
    for recompute, way in {True: "recomputed", False: "remembered"}.items():
        held = {count: in_a_process(name, count, batch, recompute) for count in chain_steps}
        rows += [row(f"memory/{way}/{count}", value, "MiB", 0) for count, value in held.items()]
        rows.append(row(f"memory/{way}/growth", held[many] / max(held[few], 1e-9), "ratio", 0))
    rows += time_of(load, name, chains, steps, langevin, copies)
    columns = {str(count): f"{count} steps" for count in chain_steps} | {"growth": "growth"}
    took = {f"time/{case}": case for case in ("no energy", "clip")}
    return Report(
        rows,
        {
            "memory": Table({f"memory/{way}": way for way in ("recomputed", "remembered")}, columns, "MiB at the peak"),
            "time": Table(took, {"seconds": "seconds"}, f"{langevin} steps of {chains} chains, sampler of {steps}"),
        },
    )


def time_of(load: Callable, name: str, chains: int, steps: int, langevin: int, copies: int) -> list[Row]:
    """Once each: it takes minutes."""
    device = clock.best_device()
    model = load(name, device=device).replace(steps=steps, eta=0.0)
    wished = energies.clip(load("critters-clip", device=device), WORDS, copies) * 500
    rows = []
    for case, energy in {"no energy": energies.Energy(), "clip": wished}.items():
        seconds = clock.once(lambda energy=energy: list(guide(model, energy, chains, langevin, 0.05)))
        rows.append(row(f"time/{case}/seconds", Estimate(seconds, None, 1), "s", 0))
    return rows


def in_a_process(name: str, steps: int, batch: int, recompute: bool) -> float:
    """MiB that a gradient through `steps` steps takes at most, beyond what its process had before."""
    return called("benchmarks.guidance", name, steps, batch, recompute)


def one(name: str, steps: int, batch: int, recompute: bool) -> float:
    device = clock.best_device()
    model = zoo.load(name, device=device).replace(steps=steps, eta=0.0, recompute=recompute)
    code = model.random_code(batch).requires_grad_()
    return most_of(lambda: torch.autograd.grad(model.decode(code).square().sum(), code), device)


if __name__ == "__main__":
    print(one(*json.loads(sys.argv[1])))
