"""DPM-Encoder: from a picture to the code that a stochastic sampler turns into it, exactly; and the ODE run backwards.

Wu & De la Torre, "A latent space of stochastic diffusion models" (2023), section 3.2; independent trajectories:
Huberman-Spiegelglas et al., "An edit friendly DDPM noise space" (2024); fixed points: Garibi et al., "ReNoise" (2024).
"""

import torch
from torch import Tensor

from minidiff.denoiser import Prediction
from minidiff.samplers import DenoiserLike, Grid, OneLook, Sampler, draw, solve
from minidiff.schedule import Schedule, Step
from minidiff.seeds import Seeds, as_seeds, normal

TRAJECTORIES = ("posterior", "independent")


@torch.no_grad()
def dpm_encode(
    denoiser: DenoiserLike, sampler: Sampler, grid: Grid, x0: Tensor, seeds: Seeds = 0, trajectory: str = "posterior"
) -> Tensor:
    """x0 (B, C, H, W) -> code (B, len(grid) + 1, C, H, W) with decode_code(..., code) == x0 up to rounding.

    A noisy path x_T, ..., x_1, x_0 is drawn for x0; each step is solved for the noise that makes the sampler take it.
    trajectory "posterior" draws x_s from q(x_s | x_t, x0), "independent" draws each x_s afresh from q(x_s | x0).
    Nothing here asks which sampler it is: one that draws noise can be encoded the day it is written.
    Raises ValueError for a sampler with eta = 0, another trajectory, or x0 that is not floats (B, C, H, W).
    """
    _check(x0)
    if sampler.eta == 0:
        raise ValueError(
            "eta: the stochastic encoder needs eta > 0, got 0; use ddim_invert for a deterministic sampler"
        )
    check_trajectory(trajectory)
    seeds = as_seeds(seeds, len(x0), x0.device)
    x = start_state(sampler.schedule, grid, x0, seeds)
    code, seen = [x], None
    for k, step in enumerate(grid):
        x_s = next_on_path(sampler, grid, k, x, x0, seeds, trajectory)
        prediction, seen = sampler.look(denoiser, x, step, seen)
        mean, std = sampler.transition(x, prediction, step)
        code.append(solve(mean, std, x_s))
        x = draw(mean, std, code[-1])  # not x_s: where the decoder will be, to the last bit
    return torch.stack(code, dim=1)


@torch.no_grad()
def ddim_invert(
    denoiser: DenoiserLike, sampler: Sampler | Schedule, grid: Grid, x0: Tensor, fixed_point_iters: int = 0
) -> Tensor:
    """x0 (B, C, H, W) -> code (B, 1, C, H, W): the x_T from which DDIM with eta = 0 comes back to about x0.

    To undo a step exactly takes the noise that the denoiser sees at x_t, which is not known yet. The noise it sees at
    x_s stands in (Song et al., 2021, section 4.3); each fixed-point iteration looks again, at the last x_t found.
    Raises ValueError for a sampler with eta > 0 or of higher order, a negative count, or x0 that is not floats
    (B, C, H, W).
    """
    _check(x0)
    if not isinstance(sampler, Schedule):
        check_first_order_ode(sampler)
    if fixed_point_iters < 0:
        raise ValueError(f"fixed_point_iters: expected 0 or more, got {fixed_point_iters}")
    schedule = sampler if isinstance(sampler, Schedule) else sampler.schedule
    x = x0
    for step in reversed(grid):
        x_t = ode_step(schedule, x, denoiser(x, max(step.s, 0)).eps, step)  # no network has seen s = -1: ask for t = 0
        for _ in range(fixed_point_iters):
            x_t = ode_step(schedule, x, denoiser(x_t, step.t).eps, step)
        x = x_t
    return x[:, None]


def check_trajectory(trajectory: str) -> None:
    """Raise ValueError for an unknown one."""
    if trajectory not in TRAJECTORIES:
        raise ValueError(f"trajectory: expected one of {', '.join(TRAJECTORIES)}, got {trajectory!r}")


def check_first_order_ode(sampler: Sampler) -> None:
    """Raise ValueError, naming what to use instead, for a sampler that `ddim_invert` cannot run backwards."""
    if sampler.eta != 0:
        raise ValueError(f"eta: ddim_invert runs the ODE of eta = 0, got {sampler.eta}; use dpm_encode for eta > 0")
    if type(sampler).look is not OneLook.look:
        raise ValueError(
            f"sampler: ddim_invert undoes first-order steps, not those of {type(sampler).__name__}; "
            "use DDIM or Euler at eta = 0, a sampler with eta > 0, or the exact pairs of minidiff.inversions"
        )


def next_on_path(
    sampler: Sampler, grid: Grid, k: int, x_t: Tensor, x0: Tensor, seeds: Tensor, trajectory: str
) -> Tensor:
    """Where step k of the grid, at x_t, is to land on the noisy path of x0."""
    if k == len(grid) - 1:
        return x0  # the chain ends at the picture, even if the grid's last level is not quite clean
    step, noise = grid[k], normal(seeds, x0.shape[1:], f"path {k + 1}", x0.dtype)
    if trajectory == "independent":
        return sampler.schedule.add_noise(x0, noise, step.s)
    mean, std = sampler.posterior.transition(x_t, truth(sampler.schedule, x_t, x0, step.t), step)
    return mean + std * noise


def start_state(schedule: Schedule, grid: Grid, x0: Tensor, seeds: Tensor, stream: str = "path") -> Tensor:
    """x_T ~ q(x_T | x0), the first block of the code; SDEdit starts from the same state (seeds (B,))."""
    return schedule.add_noise(x0, normal(seeds, x0.shape[1:], f"{stream} 0", x0.dtype), grid[0].t)


def ode_step(schedule: Schedule, x_s: Tensor, eps: Tensor, step: Step) -> Tensor:
    """x_t = sqrt(abar_t) (x_s - sqrt(1 - abar_s) eps) / sqrt(abar_s) + sqrt(1 - abar_t) eps: DDIM's step, upwards."""
    (signal_t, noise_t), (signal_s, noise_s) = schedule.levels(step.t, x_s), schedule.levels(step.s, x_s)
    return signal_t * (x_s - noise_s * eps) / signal_s + noise_t * eps


def truth(schedule: Schedule, x_t: Tensor, x0: Tensor, t: int) -> Prediction:
    """What a denoiser that knows x0 sees in x_t: eps = (x_t - sqrt(abar_t) x0) / sqrt(1 - abar_t)."""
    signal, noise = schedule.levels(t, x_t)
    return Prediction(x0, (x_t - signal * x0) / noise)


def _check(x0: Tensor) -> None:
    if x0.ndim != 4 or not x0.is_floating_point():
        raise ValueError(f"x0: expected floats (B, C, H, W), got {x0.dtype} of shape {tuple(x0.shape)}")
