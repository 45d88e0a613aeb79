"""Guidance: codes of any generator whose pictures an energy likes, by Langevin dynamics; `minidiff guide` in Python.

Wu & De la Torre, "A latent space of stochastic diffusion models" (ICCV 2023), on plug-and-play guidance: no network is
trained, p(z) proportional to exp(-0.5 |z|^2 - sum_k weight_k E_k(decode(z))) is sampled as it stands.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from minidiff.energies import Energy, EnergyError, custom
from minidiff.energy_words import energy as from_words
from minidiff.generators import Generator
from minidiff.langevin import ChainStopped, LangevinStep, choose, langevin, step_sizes
from minidiff.processes import bar
from minidiff.seeds import Seeds, as_seeds, normal

CANDIDATES = 2**40  # between the seeds of two candidates of one chain
AnyEnergy = Energy | str | Callable[[Tensor, Tensor], Tensor]


def guide(
    model: Generator,
    energy: AnyEnergy,
    count: int | None = None,
    steps: int = 200,
    step_size: float = 0.05,
    *,
    last_step_size: float | None = None,
    adjusted: bool = False,
    gradient_steps: int | None = None,
    candidates: int = 1,
    seeds: Seeds = 0,
    code: Tensor | None = None,
    start: int = 0,
) -> Iterator[LangevinStep]:
    """`count` chains (4 by default) of Langevin dynamics under an energy; yields the start, then every step.

    energy: an `Energy`, words (see `energy_words.energy`), or a function of images and code. `step_size` is h; it falls
    or rises geometrically to `last_step_size` if that is given. `adjusted` accepts or rejects every step (MALA), which
    removes the bias of h. `gradient_steps` takes energies from so few steps of a sampler with eta = 0, whose code means
    the same in any number of steps; `LangevinStep.images` still takes all of them. A diffusion model as it is loaded has
    50 steps and a code for each: `model.replace(eta=0)` with gradient_steps=10 is what `minidiff guide` takes.
    A chain begins at the best of so many random codes, `candidates`: steps are small, and who begins as another species may
    never arrive. It depends on its own seed alone. It goes on where it stopped with that state's `code` and
    `start=state.step`, other things equal, to the last bit. The chains may start at any code, such as that of a picture.
    Raises ValueError for arguments that do not fit, ChainStopped, with the last good state, when the energy fails.
    """
    fewer = in_fewer_steps(model, gradient_steps)
    sizes = step_sizes(steps, step_size, last_step_size)
    if not 0 <= start <= steps:
        raise ValueError(f"start: expected a step from 0 to {steps}, got {start}")
    energy = as_energy(energy)
    if code is None:
        code = best_start(model, fewer, energy, 4 if count is None else count, seeds, candidates)
    elif tuple(code.shape[1:]) != tuple(model.code_shape) or count not in (None, len(code)):
        wanted = ("B" if count is None else count, *model.code_shape)
        raise ValueError(f"code: expected shape ({', '.join(map(str, wanted))}), got {tuple(code.shape)}")
    if hasattr(model, "check_count"):
        model.check_count(len(code))
    seeds = as_seeds(seeds, len(code), code.device)
    return langevin(model, energy, code.detach(), seeds, sizes, adjusted, start, fewer)


def in_fewer_steps(model: Generator, steps: int | None) -> Generator:
    """The model with another number of steps from the same start. Raises ValueError where its code would not fit."""
    if steps is None:
        return model
    if getattr(model, "eta", None) != 0:
        raise ValueError(
            "gradient_steps: only a sampler with eta = 0 has a code that fits any number of steps, "
            f"got {'eta = ' + str(model.eta) if hasattr(model, 'eta') else type(model).__name__}"
        )
    fewer = model.replace(steps=steps)
    if fewer.grid[0].t != model.grid[0].t:
        raise ValueError(
            f"gradient_steps: with strength {model.strength} a grid of {steps} starts at noise level {fewer.grid[0].t}, "
            f"not at {model.grid[0].t} as one of {model.steps}"
        )
    return fewer


def start_code(model: Generator, count: int, seeds: Seeds) -> Tensor:
    """Standard normal codes (count, *code_shape); `model.random_code` where there is one."""
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    if hasattr(model, "random_code"):
        return model.random_code(count, seeds)
    return normal(as_seeds(seeds, count), model.code_shape, "code")


@torch.no_grad()
def best_start(model: Generator, fewer: Generator, energy: Energy, count: int, seeds: Seeds, candidates: int) -> Tensor:
    """Of so many random codes for each chain the one of the lowest energy, (count, *code_shape); the first is `start_code`'s.

    All are random codes, so the prior says nothing about which. Raises ValueError for no candidates, ChainStopped for an
    energy that is none.
    """
    if candidates < 1:
        raise ValueError(f"candidates: expected at least 1, got {candidates}")
    best = start_code(model, count, seeds)
    lowest, seeds = best.new_full((count,), torch.inf), as_seeds(seeds, count, best.device)
    for k in bar(range(candidates if candidates > 1 else 0), desc="candidates", delay=2, leave=False):
        code = start_code(model, count, seeds + k * CANDIDATES)
        try:
            value = energy(fewer.decode(code), code, seeds)
        except EnergyError as error:
            raise ChainStopped(f"{error}, among the candidates for a start") from error
        better = value < lowest  # (B,)
        best, lowest = choose(better, code, best), torch.where(better, value, lowest)
    return best


def as_energy(energy: AnyEnergy) -> Energy:
    """Words, or a function of images and code, as an `Energy`."""
    if isinstance(energy, Energy):
        return energy
    return from_words(energy) if isinstance(energy, str) else custom(energy)
