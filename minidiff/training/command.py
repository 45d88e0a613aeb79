"""What `minidiff train` does: the loop with a progress bar, and the way into the zoo."""

import dataclasses
import shlex
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import torch

from minidiff.processes import bar, here
from minidiff.training.loop import TrainStep, train
from minidiff.training.recipes import recipe


def run(
    name: str, steps: int | None = None, out: str | Path | None = None, resume: bool = True, export: bool = False
) -> Path:
    """Train one model of the zoo and return the folder of the run; with `export`, put the result into the zoo.

    Of several processes (`accelerate launch -m minidiff.training NAME`) the first alone shows progress and exports.
    Raises ValueError for an unknown name, or when the folder holds another run.
    """
    torch.set_flush_denormal(True)  # averages of vanishing gradients would make every step many times slower
    chosen = recipe(name) if steps is None else dataclasses.replace(recipe(name), steps=steps)
    out = Path(out) if out else Path("runs") / name
    command = f"minidiff train {shlex.quote(name)}" + (f" --steps {steps}" if steps is not None else "")
    show(train(chosen, out, resume, command=command, watch=watched), name)
    if export and here()[0] == 0:
        from minidiff.training.export import export as into_zoo

        print(into_zoo(out))
    return out


def show(training: Iterator[TrainStep], name: str) -> None:
    """Train to the end under a bar that counts from where the run goes on, so that the time left is right."""
    for first in training:
        with bar(total=first.total, initial=first.step - 1, desc=name, unit="step") as shown:
            for step in chain([first], training):
                shown.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
                shown.update(1)


def watched(loop: Iterable, title: str) -> Iterable:
    return bar(loop, desc=title)
