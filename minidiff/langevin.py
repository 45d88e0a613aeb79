"""Langevin dynamics on codes: downhill on U(z) = 0.5 |z|^2 + sum_k weight_k E_k(decode(z)), and noise to match.

z <- z - (h/2) grad U(z) + sqrt(h) xi, as Wu & De la Torre, "A latent space of stochastic diffusion models" (ICCV 2023)
publish it, samples exp(-U) up to a bias of order h; the Metropolis step that removes it: Roberts & Tweedie, "Exponential
convergence of Langevin distributions and their discrete approximations" (1996).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.energies import Energy, EnergyError
from minidiff.generators import Generator
from minidiff.seeds import normal, uniform


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


def free_part(model: Generator) -> Tensor | float:
    """1 where a code is standard normal, 0 where it is a residual; broadcasts to code_shape. 1 for most generators."""
    return getattr(model, "free", 1.0)


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
