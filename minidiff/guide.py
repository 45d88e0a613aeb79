"""Guidance: Langevin dynamics on the codes of any generator, towards pictures that an energy likes.

It samples p(z) proportional to exp(-U(z)), U(z) = 0.5 |z|^2 + sum_k weight_k E_k(decode(z)): Wu & De la Torre, "A latent
space of stochastic diffusion models" (ICCV 2023), on plug-and-play guidance. Its bias, and the Metropolis step that
removes it: Roberts & Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations" (1996).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.energies import Energy, EnergyError, custom
from minidiff.energy_words import energy as from_words
from minidiff.generators import Generator
from minidiff.seeds import Seeds, as_seeds, normal, uniform

AnyEnergy = Energy | str | Callable[[Tensor, Tensor], Tensor]


class Potential(NamedTuple):
    """U at some codes, per chain: sum_k weight_k E_k (B,), each E_k (B, terms), 0.5 |z|^2 (B,) and grad U, as the code."""

    energy: Tensor
    parts: Tensor
    prior: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class LangevinStep:
    """Where the chains are after `step` of `total` steps: code (B, *code_shape); energy, prior, parts: see `Potential`.

    accepted (B,): which chains moved; all do at step 0 and without the Metropolis step.
    """

    step: int
    total: int
    code: Tensor
    energy: Tensor
    prior: Tensor
    parts: Tensor
    accepted: Tensor
    _generator: Generator = field(repr=False)

    @torch.no_grad()
    def images(self) -> Tensor:
        """The pictures of these codes, (B, C, H, W), decoded now, in all steps of the generator."""
        return self._generator.decode(self.code)


class ChainStopped(ValueError):
    """An energy failed in mid-chain. `state` is the last good LangevinStep; None when there was none."""

    def __init__(self, message: str, state: LangevinStep | None = None) -> None:
        super().__init__(message)
        self.state = state


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
    seeds: Seeds = 0,
    code: Tensor | None = None,
    start: int = 0,
) -> Iterator[LangevinStep]:
    """`count` chains (4 by default) of Langevin dynamics under an energy; yields the start, then every step.

    energy: an `Energy`, words (see `energy_words.energy`), or a function of images and code. `step_size` is h; it falls
    or rises geometrically to `last_step_size` if that is given. `adjusted` accepts or rejects every step (MALA), which
    removes the bias of h. `gradient_steps` takes energies from so few steps of a sampler with eta = 0, whose code means
    the same in any number of steps; `LangevinStep.images` still takes all of them.
    A chain depends on its own seed alone. It goes on where it stopped with that state's `code` and `start=state.step`,
    other things equal, to the last bit. The chains may start at any code, such as that of a picture.
    Raises ValueError for arguments that do not fit, ChainStopped, with the last good state, when the energy fails.
    """
    fewer = in_fewer_steps(model, gradient_steps)
    sizes = step_sizes(steps, step_size, last_step_size)
    if not 0 <= start <= steps:
        raise ValueError(f"start: expected a step from 0 to {steps}, got {start}")
    if code is None:
        code = start_code(model, 4 if count is None else count, seeds)
    elif tuple(code.shape[1:]) != tuple(model.code_shape) or count not in (None, len(code)):
        wanted = ("B" if count is None else count, *model.code_shape)
        raise ValueError(f"code: expected shape ({', '.join(map(str, wanted))}), got {tuple(code.shape)}")
    if hasattr(model, "check_count"):
        model.check_count(len(code))
    seeds = as_seeds(seeds, len(code), code.device)
    return langevin(model, as_energy(energy), code.detach(), seeds, sizes, adjusted, start, fewer)


def langevin(
    model: Generator,
    energy: Energy,
    code: Tensor,
    seeds: Tensor,
    sizes: Sequence[float],
    adjusted: bool = False,
    start: int = 0,
    fewer: Generator | None = None,
) -> Iterator[LangevinStep]:
    """The chain behind `guide`: z <- z - (h/2) grad U(z) + sqrt(h) xi, one h of `sizes` for each step."""
    model_of_energy, state = fewer or model, None

    def look(code: Tensor, step: int) -> Potential:
        try:
            return potential(model_of_energy, energy, code, seeds)
        except EnergyError as error:
            raise ChainStopped(f"{error}, at step {step} of {len(sizes)}", state) from error

    def arrived(step: int, accepted: Tensor) -> LangevinStep:
        return LangevinStep(step, len(sizes), code, now.energy, now.prior, now.parts, accepted, model)

    now, everyone = look(code, start), torch.ones_like(seeds, dtype=torch.bool)
    state = arrived(start, everyone)
    yield state
    for step, h in enumerate(sizes[start:], start + 1):
        xi = free_part(model) * normal(seeds, code.shape[1:], f"langevin {step}", code.dtype)
        new = drift(code, now, h) + math.sqrt(h) * xi
        then, accepted = look(new, step), everyone
        if adjusted:
            accepted = uniform(seeds, (), f"accept {step}").log() < log_ratio(code, now, new, then, h)
            new, *then = (choose(accepted, a, b) for a, b in zip((new, *then), (code, *now), strict=True))
        code, now = new, Potential(*then)
        state = arrived(step, accepted)
        yield state


def potential(model: Generator, energy: Energy, code: Tensor, seeds: Tensor) -> Potential:
    """U(z) = 0.5 |z|^2 + sum_k weight_k E_k(decode(z)) and its gradient, of codes (B, *code_shape).

    Residual blocks of a code have no prior and are not to be moved: their part of the gradient is 0.
    Raises EnergyError for a term whose value or gradient is none.
    """
    free = free_part(model)
    with torch.enable_grad():
        z = code.detach().requires_grad_()
        parts = energy.parts(model.decode(z), z, seeds)
        prior = 0.5 * squared_norm(free * z)
        (gradient,) = torch.autograd.grad((prior + energy.total(parts)).sum(), z)
    if not gradient.isfinite().all():
        raise EnergyError(f"energy {culprit(model, energy, code, seeds)!r}: expected a finite gradient, got NaN or inf")
    parts = parts.detach()
    return Potential(energy.total(parts), parts, prior.detach(), free * gradient)


def drift(code: Tensor, at: Potential, h: float) -> Tensor:
    """z - (h/2) grad U(z): where a step goes on average."""
    return code - h / 2 * at.gradient


def log_ratio(code: Tensor, now: Potential, new: Tensor, then: Potential, h: float) -> Tensor:
    """log [p(z') q(z | z') / p(z) q(z' | z)], (B,), with the step q(z' | z) = N(z'; drift(z), h)."""
    there, back = squared_norm(new - drift(code, now, h)), squared_norm(code - drift(new, then, h))
    return (now.energy + now.prior) - (then.energy + then.prior) + (there - back) / (2 * h)


def step_sizes(steps: int, first: float, last: float | None = None) -> list[float]:
    """h of every step: `first` throughout, or geometrically from `first` to `last`.

    Raises ValueError for fewer than 1 step or sizes outside (0, 4): from 4 on even a chain without energy explodes.
    """
    last = first if last is None else last
    for name, h in (("step_size", first), ("last_step_size", last)):
        if not 0 < h < 4:
            raise ValueError(f"{name}: expected a number between 0 and 4, got {h}")
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    return [first * (last / first) ** (k / max(steps - 1, 1)) for k in range(steps)]


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


def free_part(model: Generator) -> Tensor | float:
    """1 where a code is standard normal, 0 where it is a residual; broadcasts to code_shape. 1 for most generators."""
    return getattr(model, "free", 1.0)


def as_energy(energy: AnyEnergy) -> Energy:
    """Words, or a function of images and code, as an `Energy`."""
    if isinstance(energy, Energy):
        return energy
    return from_words(energy) if isinstance(energy, str) else custom(energy)


def culprit(model: Generator, energy: Energy, code: Tensor, seeds: Tensor) -> str:
    """The name of the first term without a finite gradient; of all of them where it takes their sum."""
    for term in energy.terms:
        z = code.detach().requires_grad_()
        with torch.enable_grad():
            value = term(model.decode(z), z, seeds).sum()
            (gradient,) = torch.autograd.grad(value, z, allow_unused=True)
        if gradient is not None and not gradient.isfinite().all():
            return term.name
    return str(energy)


def choose(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Row by row the new one where accepted (B,), else the old."""
    return torch.where(accepted.view(-1, *[1] * (new.ndim - 1)), new, old)


def squared_norm(code: Tensor) -> Tensor:
    """|z|^2 per chain, (B,)."""
    return code.square().flatten(1).sum(1)
