"""The one training loop: AdamW, warm-up and cosine, an average of the weights, checkpoints; a generator of steps.

Every step is a function of the recipe, the step number and the state before it, so a killed run that is resumed ends with
the same bits as one that was not (on one process and with the same number of threads).
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from minidiff.training import metrics
from minidiff.training.bank import Bank, Watch, batch_seeds, draw, unwatched
from minidiff.training.checkpoint import flatten_optimizer, load, restore_optimizer, save
from minidiff.training.ema import EMA
from minidiff.training.machine import machine
from minidiff.training.tasks import Recipe

CHECKPOINT, METRICS, MODEL = "checkpoint.safetensors", "metrics.jsonl", "model.safetensors"


@dataclass(frozen=True)
class TrainStep:
    """What one step did. `step` counts finished steps, `loss` is the batch's mean, `seconds` add up over resumes."""

    step: int
    total: int
    loss: float
    lr: float
    seconds: float
    images_per_second: float


class Objective(nn.Module):
    """The loss as a module: several processes synchronise gradients in `forward`, so the whole loss must be inside."""

    def __init__(self, recipe: Recipe, network: nn.Module):
        super().__init__()
        self.recipe, self.network = recipe, network

    def forward(self, rows: Bank, seeds: Tensor) -> Tensor:
        return self.recipe.loss(self.network, rows, seeds).mean()


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

    `cpu` None takes a CUDA device when there is one; under `accelerate launch` the batch is shared between processes.
    `watch` wraps the loops that make the data (a progress bar). `resume` False starts anew over an old run.
    Raises ValueError when `out_dir` holds a run of a different recipe, or a damaged checkpoint.
    """
    out = Path(out_dir)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available() if cpu is None else cpu, mixed_precision=mixed_precision
    )
    rank, ranks, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    if recipe.batch % ranks:
        raise ValueError(f"batch: expected a multiple of the {ranks} processes, got {recipe.batch}")
    identity = recipe.fields() | recipe.sources()
    saved = load(out / CHECKPOINT) if resume and (out / CHECKPOINT).exists() else None
    if saved:
        check_same(identity, saved[1]["recipe"], out)

    bank = {name: values.to(device) for name, values in recipe.bank(watch).items()}
    torch.manual_seed(recipe.seed)
    network = recipe.network().to(device)
    recipe.prepare(network, bank)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.lr, recipe.betas, weight_decay=recipe.weight_decay)
    objective, optimizer = accelerator.prepare(Objective(recipe, network), optimizer)
    ema = EMA(network, recipe.decay)
    state = {"step": 0, "seconds": 0.0, "window": [], "recipe": identity}
    if saved:
        tensors, state = saved
        network.load_state_dict(part(tensors, "network/"))
        ema.load(part(tensors, "average/"))
        restore_optimizer(optimizer, part(tensors, "optimizer/"))
    elif accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        (out / CHECKPOINT).unlink(missing_ok=True)
        (out / MODEL).unlink(missing_ok=True)
    if accelerator.is_main_process:
        metrics.cut(out / METRICS, state["step"])

    start, begun = time.perf_counter() - state["seconds"], state["step"]
    resumed_at = state["seconds"]
    for step in range(state["step"], recipe.steps):
        lr = learning_rate(recipe, step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        seeds = batch_seeds(recipe.seed, step, recipe.batch, rank, ranks).to(device)
        loss = objective(draw(bank, seeds), seeds)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(objective.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(network, step)

        done, seconds = step + 1, time.perf_counter() - start
        value = accelerator.reduce(loss.detach(), "mean").item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"loss: {value} at step {done} of {recipe.name}; a lower lr than {recipe.lr} may help"
            )
        state |= {"step": done, "seconds": seconds, "window": [*state["window"], value]}
        rate = (done - begun) * recipe.batch / max(seconds - resumed_at, 1e-9)
        if done % recipe.log_every == 0 or done == recipe.steps:
            row = {"step": done, "loss": sum(state["window"]) / len(state["window"]), "lr": lr}
            state["window"] = []
            if accelerator.is_main_process:
                metrics.append(out / METRICS, row | {"images_per_second": round(rate, 1), "seconds": round(seconds, 2)})
        if (done % recipe.checkpoint_every == 0 or done == recipe.steps) and accelerator.is_main_process:
            save(out / CHECKPOINT, tensors_of(network, ema, optimizer), state)
        yield TrainStep(done, recipe.steps, value, lr, seconds, rate)

    if accelerator.is_main_process:
        ema.copy_to(network)
        recipe.finish(network, bank)
        facts = {"recipe": identity, "steps": state["step"], "seconds": round(state["seconds"], 1)}
        save(out / MODEL, network.state_dict(), facts | {"command": command, "machine": machine(device, ranks)})
    accelerator.wait_for_everyone()


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine from `lr` to 1 % of it (Loshchilov & Hutter, "SGDR", ICLR 2017, equation 5)."""
    rise = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    fall = 0.505 + 0.495 * math.cos(math.pi * step / recipe.steps)
    return recipe.lr * rise * fall


def tensors_of(network: nn.Module, ema: EMA, optimizer) -> dict[str, Tensor]:
    parts = {"network/": network.state_dict(), "average/": ema.average, "optimizer/": flatten_optimizer(optimizer)}
    return {prefix + name: tensor for prefix, tensors in parts.items() for name, tensor in tensors.items()}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_same(fields: dict, saved: dict, out: Path) -> None:
    """Raises ValueError when the run in `out` is not one of this very recipe."""
    changed = sorted(name for name in fields.keys() | saved.keys() if fields.get(name) != saved.get(name))
    if changed:
        now, then = ({name: values.get(name) for name in changed} for values in (fields, saved))
        raise ValueError(
            f"resume: {out} holds a run with {then}, not {now}; start anew (--no-resume) or elsewhere (--out)"
        )
