"""Deterministic samplers that can be undone to the last digit, though no step is solved for: every line is reversible.

Both carry two states, so each line changes one with the help of the other. EDICT: Wallace, Gokul & Naik, "Exact
diffusion inversion via coupled transformations" (CVPR 2023), eqs. 14 and 15; O-BELM: Wang et al., "Bidirectional
explicit linear multi-step samplers" (NeurIPS 2024), eq. 18. A code here is a pair of noisy states, (B, 2, C, H, W).
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from minidiff.encoder import ode_step
from minidiff.samplers import DenoiserLike, Grid, grad_of
from minidiff.schedule import Schedule, Step


def edict_decode(denoiser: DenoiserLike, schedule: Schedule, grid: Grid, code: Tensor, mix: float = 0.93) -> Tensor:
    """code (B, 2, C, H, W) -> x0 (B, C, H, W): two copies of DDIM that look at each other, two calls a step.

    Equal states are a sample. `mix` in (0, 1] keeps the copies together. Raises ValueError for another mix or shape.
    """
    x, y = _pair(code, mix)
    with grad_of(code):
        for step in grid:
            a, b = ddim_factors(schedule, step)
            x = a * x + b * denoiser(y, step.t).eps
            y = a * y + b * denoiser(x, step.t).eps
            x = mix * x + (1 - mix) * y
            y = mix * y + (1 - mix) * x
    return x


@torch.no_grad()
def edict_encode(denoiser: DenoiserLike, schedule: Schedule, grid: Grid, x0: Tensor, mix: float = 0.93) -> Tensor:
    """x0 (B, C, H, W) -> code (B, 2, C, H, W) with edict_decode(..., code) == x0: its lines undone, the last one first.

    What the two copies differ in shrinks by mix^2 a step on the way down and grows by 1 / mix^2 on the way up, rounding
    errors included: work in float64, and bring mix nearer to 1 for more than 100 steps.
    Raises ValueError for another mix or shape.
    """
    x, y = _pair(torch.stack([x0, x0], dim=1), mix)
    for step in reversed(grid):
        a, b = ddim_factors(schedule, step)
        y = (y - (1 - mix) * x) / mix
        x = (x - (1 - mix) * y) / mix
        y = (y - b * denoiser(x, step.t).eps) / a
        x = (x - b * denoiser(y, step.t).eps) / a
    return torch.stack([x, y], dim=1)


def ddim_factors(schedule: Schedule, step: Step) -> tuple[float, float]:
    """DDIM at eta = 0 as x_s = a x_t + b eps: a = sqrt(abar_s / abar_t), b = sqrt(1 - abar_s) - a sqrt(1 - abar_t)."""
    abar_t, abar_s = schedule.abar_at(step.t), schedule.abar_at(step.s)
    a = math.sqrt(abar_s / abar_t)
    return a, math.sqrt(1 - abar_s) - a * math.sqrt(1 - abar_t)


def belm_decode(denoiser: DenoiserLike, schedule: Schedule, grid: Grid, code: Tensor) -> Tensor:
    """code (B, 2, C, H, W), the states at the grid's first two levels -> x0 (B, C, H, W); one call a step.

    In X = x / signal, with h the fall of sigma in a step and r = h / h_before:
    X_s = r^2 X_before + (1 - r^2) X_t - h (1 + r) eps(x_t): the step of second order that also reads backwards.
    Raises ValueError for a code of another shape.
    """
    before, x = _pair(code)
    with grad_of(code):
        for u, step, h, r in belm_steps(schedule, grid):
            X_u, X_t = (state / signal_at(schedule, level) for state, level in ((before, u), (x, step.t)))
            X_s = r**2 * X_u + (1 - r**2) * X_t - h * (1 + r) * denoiser(x, step.t).eps
            before, x = x, signal_at(schedule, step.s) * X_s
    return x


@torch.no_grad()
def belm_encode(denoiser: DenoiserLike, schedule: Schedule, grid: Grid, x0: Tensor) -> Tensor:
    """x0 (B, C, H, W) -> code (B, 2, C, H, W) with belm_decode(..., code) == x0: the same line solved for X_before.

    The second state to start from, one level above clean data, is DDIM inversion's. It is part of no error: whatever it
    is, the way back leads from it to x0. Raises ValueError for x0 of another shape.
    """
    _pair(torch.stack([x0, x0], dim=1))
    x_s, last = x0, grid[-1]
    x = ode_step(schedule, x0, denoiser(x0, max(last.s, 0)).eps, last)
    for u, step, h, r in reversed(list(belm_steps(schedule, grid))):
        X_s, X_t = (state / signal_at(schedule, level) for state, level in ((x_s, step.s), (x, step.t)))
        X_u = (X_s - (1 - r**2) * X_t + h * (1 + r) * denoiser(x, step.t).eps) / r**2
        x_s, x = x, signal_at(schedule, u) * X_u
    return torch.stack([x, x_s], dim=1)


def belm_start(denoiser: DenoiserLike, schedule: Schedule, grid: Grid, x_T: Tensor) -> Tensor:
    """x_T (B, C, H, W) -> a code (B, 2, C, H, W) to sample from: the second state is one step of DDIM away."""
    a, b = ddim_factors(schedule, grid[0])
    with grad_of(x_T):
        return torch.stack([x_T, a * x_T + b * denoiser(x_T, grid[0].t).eps], dim=1)


def belm_steps(schedule: Schedule, grid: Grid) -> Iterator[tuple[float, Step, float, float]]:
    """(u, step from t to s, h = sigma_t - sigma_s, r = h / (sigma_u - sigma_t)) of all steps but the first, u to t."""
    for before, step in zip(grid, grid[1:]):
        h_before, h = (schedule.sigma_at(each.t) - schedule.sigma_at(each.s) for each in (before, step))
        yield before.t, step, h, h / h_before


def signal_at(schedule: Schedule, t: float) -> float:
    """sqrt(abar_t)."""
    return math.sqrt(schedule.abar_at(t))


def _pair(code: Tensor, mix: float = 1.0) -> tuple[Tensor, Tensor]:
    if not 0 < mix <= 1:
        raise ValueError(f"mix: expected a number in (0, 1], got {mix!r}")
    if code.ndim != 5 or code.shape[1] != 2 or not code.is_floating_point():
        raise ValueError(f"code: expected floats (B, 2, C, H, W), got {code.dtype} of shape {tuple(code.shape)}")
    return code.unbind(1)
