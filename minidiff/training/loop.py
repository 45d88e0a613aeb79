"""The one training loop: a generator that yields every step, keeps the metrics file and writes checkpoints.

Every step is a function of the recipe, the step number and the state before it, so a killed run that is resumed ends
with the same bits as one that was not (on one process and with the same number of threads; on several, or on another
number of them, up to rounding).
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor

from minidiff.fast.memory import kept_memory
from minidiff.machine import machine
from minidiff.processes import from_first
from minidiff.training import metrics
from minidiff.training.bank import Watch, unwatched
from minidiff.training.checkpoint import load, save
from minidiff.training.recipe import Recipe
from minidiff.training.run import Run

CHECKPOINT, METRICS, MODEL = "checkpoint.safetensors", "metrics.jsonl", "model.safetensors"
STAGE, STAGES = "stage-{:06}.safetensors", "stage-*.safetensors"


@dataclass(frozen=True)
class TrainStep:
    """What one step did. `step` counts finished steps, `loss` is the batch's mean, `seconds` add up over resumes."""

    step: int
    total: int
    loss: float
    lr: float
    seconds: float
    images_per_second: float


def train(
    recipe: Recipe,
    out_dir: str | Path,
    resume: bool = True,
    cpu: bool | None = None,
    mixed_precision: str | None = None,
    command: str = "",
    watch: Watch = unwatched,
) -> Iterator[TrainStep]:
    """Train `recipe` and yield every step; `out_dir` gets checkpoint, metrics.jsonl and, at the end, model.safetensors.

    `cpu` None takes a CUDA device when there is one. Under `accelerate launch` the batch is shared between processes, and
    the first alone reads and writes `out_dir`; a run may go on with another number of them. `watch` wraps the loops that
    make the data (a progress bar). `resume` False starts anew over an old run.
    Raises ValueError when `out_dir` holds a run of a different recipe, or a damaged checkpoint.
    """
    out = Path(out_dir)
    on_cpu = not torch.cuda.is_available() if cpu is None else cpu
    rest = DistributedDataParallelKwargs(find_unused_parameters=True)  # parts of a network may have nothing to learn
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=mixed_precision, kwargs_handlers=[rest])
    writes = accelerator.is_main_process
    identity = recipe.fields() | recipe.sources()
    tensors, state, finished = from_first(lambda: saved(out, recipe)) if resume else ({}, {}, False)
    if state:
        check_same(identity, recipe.completed(state["recipe"]), out)
        if finished:
            return

    run = Run(recipe, accelerator, watch)
    if state:
        run.restore(tensors)
    elif writes:
        start_anew(out)
    done, window, before = state.get("step", 0), state.get("window", []), state.get("seconds", 0.0)
    if writes:
        metrics.cut(out / METRICS, done)

    start, first = time.perf_counter(), done
    with kept_memory():
        while done < recipe.steps:
            lr = learning_rate(recipe, done)
            loss = run.step(done, lr)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"loss: {loss} after step {done} of {recipe.name}; try an lr below {recipe.lr}"
                )

            done, window, elapsed = done + 1, [*window, loss], time.perf_counter() - start
            seconds, rate = before + elapsed, (done - first) * recipe.batch / elapsed
            if done % recipe.log_every == 0 or done == recipe.steps:
                if writes:
                    row = {"step": done, "loss": sum(window) / len(window), "lr": lr}
                    metrics.append(
                        out / METRICS, row | {"images_per_second": round(rate, 1), "seconds": round(seconds, 2)}
                    )
                window = []
            state = {"step": done, "seconds": seconds, "window": window, "recipe": identity}
            if writes and (done % recipe.checkpoint_every == 0 or done == recipe.steps):
                save(out / CHECKPOINT, run.tensors(), state)
            if writes and done in recipe.stages:
                save(out / STAGE.format(done), run.weights(), state)
            yield TrainStep(done, recipe.steps, loss, lr, seconds, rate)

    if writes:
        facts = {"recipe": identity, "steps": done, "seconds": round(state["seconds"], 1), "command": command}
        where = {"device": str(accelerator.device), "processes": accelerator.num_processes, "torch": torch.__version__}
        save(out / MODEL, run.finish(), facts | {"machine": machine() | where})
    accelerator.wait_for_everyone()


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine from `lr` to 1 % of it; after every restart the same from `restart_lr`
    (Loshchilov & Hutter, "SGDR", ICLR 2017, equation 5)."""
    first = max((restart for restart in recipe.restarts if restart <= step), default=0)
    last = min((restart for restart in recipe.restarts if restart > step), default=recipe.steps)
    highest = recipe.restart_lr if first else recipe.lr
    rise = min(1.0, (step - first + 1) / recipe.warmup) if recipe.warmup else 1.0
    fall = 0.505 + 0.495 * math.cos(math.pi * (step - first) / (last - first))
    return highest * rise * fall


def saved(out: Path, recipe: Recipe) -> tuple[dict[str, Tensor], dict, bool]:
    """The last checkpoint in `out`, if there is one, and whether there is no more to do."""
    if not (out / CHECKPOINT).exists():
        return {}, {}, False
    tensors, state = load(out / CHECKPOINT)
    return tensors, state, state["step"] == recipe.steps and (out / MODEL).exists()


def start_anew(out: Path) -> None:
    """Make the folder, and take away what an older run left there."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (out / CHECKPOINT, out / MODEL, *out.glob(STAGES)):
        path.unlink(missing_ok=True)


def check_same(fields: dict, saved: dict, out: Path) -> None:
    """Raises ValueError when the run in `out` is not one of this very recipe."""
    changed = sorted(name for name in fields.keys() | saved.keys() if fields.get(name) != saved.get(name))
    if changed:
        now, then = ({name: values.get(name) for name in changed} for values in (fields, saved))
        raise ValueError(
            f"resume: {out} holds a run with {then}, not {now}; start anew (--no-resume) or elsewhere (--out)"
        )
