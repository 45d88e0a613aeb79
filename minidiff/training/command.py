"""What `minidiff train` does: the loop with a progress bar, and the way into the zoo."""

import dataclasses
import shlex
from collections.abc import Iterable
from pathlib import Path

import torch

from minidiff.training.loop import train
from minidiff.training.recipes import recipe


def run(
    name: str, steps: int | None = None, out: str | Path | None = None, resume: bool = True, export: bool = False
) -> Path:
    """Train one model of the zoo and return the folder of the run; with `export`, put the result into the zoo.

    Raises ValueError for an unknown name, or when the folder holds another run.
    """
    torch.set_flush_denormal(True)  # averages of vanishing gradients would make every step many times slower
    chosen = recipe(name) if steps is None else dataclasses.replace(recipe(name), steps=steps)
    out = Path(out) if out else Path("runs") / name
    command = f"minidiff train {shlex.quote(name)}" + (f" --steps {steps}" if steps is not None else "")
    training = train(chosen, out, resume, command=command, watch=bar)
    with progress(total=chosen.steps, desc=name, unit="step") as shown:
        for step in training:
            shown.update(step.step - shown.n)
            shown.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
    if export:
        from minidiff.training.export import export as into_zoo

        print(into_zoo(out))
    return out


def progress(*args, **kwargs):
    """tqdm where it is installed; on a bare machine, a line now and then."""
    try:
        from tqdm import tqdm
    except ImportError:
        from minidiff.training.plainbar import PlainBar as tqdm
    return tqdm(*args, **kwargs)


def bar(loop: Iterable, title: str) -> Iterable:
    return progress(loop, desc=title)
