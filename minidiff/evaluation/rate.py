"""How many bits does a picture cost, and how near does every bit bring it? The rate-distortion curve of any denoiser.

Whoever sends x_T, and then each x_s to someone who has x_t, spends the terms of the ELBO; x0_hat(x_t) is what the receiver
sees so far. Ho et al., "Denoising diffusion probabilistic models" (2020), section 4.3; drawn by Rombach et al. (CVPR 2022)
as their figure 2, to tell semantic from perceptual compression.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.denoiser import Denoiser
from minidiff.evaluation.intervals import Estimate, mean
from minidiff.generators import check_images, progress
from minidiff.ideal import IdealDenoiser
from minidiff.nets.autoencoder import kl
from minidiff.samplers import Grid
from minidiff.schedule import Schedule, Step, step_grid
from minidiff.seeds import Seeds, as_seeds, normal

DECODERS = ("bytes", "density")
BYTE = 127.5  # steps of an 8-bit picture in one unit of [-1, 1]


@dataclass(frozen=True)
class Level:
    """The transmission once x_t has arrived; float64 (B,) each, one value a picture.

    rate: bits per dimension spent on x_T ... x_t; cost: bits per dimension of the step from here, which is x_s or, at
    s = -1, the picture itself; error: mean squared error of x0_hat(x_t).
    """

    step: Step
    rate: Tensor
    cost: Tensor
    error: Tensor


class Point(NamedTuple):
    """A point of the curve: the rate in bits per dimension, the distortion as RMSE on the scale of 0 to 255."""

    t: int
    rate: Estimate
    distortion: Estimate


@dataclass(frozen=True)
class Curve:
    """Points from the noisy end, and what the whole picture costs: on average at least -log2 p(x0) per dimension."""

    points: list[Point]
    total: Estimate


def rate_distortion(denoiser: Denoiser | IdealDenoiser, x0: Tensor, grid: Grid | None = None, **settings) -> Curve:
    """The curve of a denoiser on pictures or latents x0 (B, C, H, W), with 95 % intervals; settings as for `levels`."""
    points, steps = [], denoiser.schedule.T if grid is None else len(grid)
    with progress("rate", steps * len(x0), denoiser):
        for level in levels(denoiser, x0, grid, **settings):
            points.append(Point(level.step.t, mean(level.rate), rmse(level.error)))
    return Curve(points, mean(level.rate + level.cost))


@torch.no_grad()
def levels(
    denoiser: Denoiser | IdealDenoiser,
    x0: Tensor,
    grid: Grid | None = None,
    seeds: Seeds = 0,
    decoder: str = "bytes",
    bound: float | None = None,
    batch: int = 64,
) -> Iterator[Level]:
    """Level by level from the noisy end, each with one draw of x_t an item; item i depends on seed i alone.

    grid: the chain (all T levels by default; the terms of a strided grid are those of the shorter chain, where long steps
    waste bits). decoder: how x0 is sent at last, as 8-bit numbers ("bytes", Ho et al., eq. 13) or as a "density" of
    continuous data. bound: guesses are clamped to [-bound, bound]. Raises ValueError for what does not fit.
    """
    schedule = denoiser.schedule
    grid = step_grid(schedule.T, schedule.T) if grid is None else grid
    check(schedule, x0, grid, decoder)
    seeds = as_seeds(seeds, len(x0), x0.device)
    to_bits = 1 / (x0[0].numel() * math.log(2))  # nats per picture -> bits per dimension
    rate = torch.cat([prior_kl(schedule, grid[0].t, part.double()) for part in x0.split(batch)]) * to_bits
    for step in grid:
        costs, errors = [], []
        for part, own in zip(x0.double().split(batch), seeds.split(batch)):
            x_t = schedule.add_noise(part, normal(own, part.shape[1:], f"rate {step.t}", part.dtype), step.t)
            guess = denoiser(x_t, step.t).x0
            guess = guess if bound is None else guess.clamp(-bound, bound)
            costs.append(step_cost(schedule, step, part, guess, decoder) * to_bits)
            errors.append((part - guess).square().flatten(1).mean(1))
        level = Level(step, rate, torch.cat(costs), torch.cat(errors))
        yield level
        rate = rate + level.cost


def prior_kl(schedule: Schedule, t: int, x0: Tensor) -> Tensor:
    """KL(q(x_t | x0) || N(0, I)) in nats per picture, (B,): what little of x0 (B, C, H, W) the last level still tells."""
    signal, noise = schedule.levels(t, x0)
    return kl(signal * x0, torch.full_like(x0, 2 * math.log(noise)))


def step_cost(schedule: Schedule, step: Step, x0: Tensor, guess: Tensor, decoder: str = "bytes") -> Tensor:
    """Nats per picture, (B,), that x_s takes once x_t is known and x0 (B, C, H, W) is guessed from it; at s = -1, x0 takes."""
    if step.s >= 0:
        return step_kl(schedule, step, x0, guess)
    std = schedule.levels(step.t, x0)[1]
    return bytes_cost(x0, guess, std) if decoder == "bytes" else density_cost(x0, guess, std)


def step_kl(schedule: Schedule, step: Step, x0: Tensor, guess: Tensor) -> Tensor:
    """KL(q(x_s | x_t, x0) || p(x_s | x_t)) = (SNR_s - SNR_t) / 2 |x0 - guess|^2, SNR = abar / (1 - abar), in nats (B,).

    It is |difference of the means|^2 / (2 posterior variance), written without x_t: both Gaussians have the posterior's
    variance, and their means the same share of x_t (Kingma et al., "Variational diffusion models", 2021, eq. 13).
    """
    snr_t, snr_s = (abar / (1 - abar) for abar in (schedule.abar_at(step.t), schedule.abar_at(step.s)))
    return (snr_s - snr_t) / 2 * (x0 - guess).square().flatten(1).sum(1)


def bytes_cost(x0: Tensor, guess: Tensor, std: float) -> Tensor:
    """-log of the mass that N(guess, std^2) has within half a step of each 8-bit value; the ends take the tails.

    Nats per picture, (B,) (Ho et al., eq. 13). std is that of the forward step, sqrt(1 - abar_t).
    """
    low, high = x0 - 0.5 / BYTE, x0 + 0.5 / BYTE
    low = torch.where(low < -1, -torch.inf, (low - guess) / std)
    high = torch.where(high > 1, torch.inf, (high - guess) / std)
    above = low > 0  # the mass between two points far up a tail is computed at its mirror image, where it is not 1 - 1
    low, high = torch.where(above, -high, low), torch.where(above, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return -(log_high + torch.log(-torch.expm1(log_low - log_high))).flatten(1).sum(1)


def density_cost(x0: Tensor, guess: Tensor, std: float) -> Tensor:
    """-log N(x0; guess, std^2) in nats per picture, (B,); below zero where the density is above one."""
    return 0.5 * (((x0 - guess) / std) ** 2 + math.log(2 * math.pi * std**2)).flatten(1).sum(1)


def rmse(error: Tensor) -> Estimate:
    """Root of the mean of squared errors (B,) of pictures in [-1, 1], on the scale of 0 to 255."""
    value, interval, n = mean(error)
    ends = None if interval is None else tuple(BYTE * math.sqrt(max(0.0, end)) for end in interval)
    return Estimate(BYTE * math.sqrt(value), ends, n)


def eight_bit(images: Tensor) -> Tensor:
    """Pictures in [-1, 1] rounded to the 256 values that files and screens have, k / 127.5 - 1."""
    return ((images.clamp(-1, 1) + 1) * BYTE).round() / BYTE - 1


def check(schedule: Schedule, x0: Tensor, grid: Grid, decoder: str) -> None:
    """Raises ValueError naming the argument that does not fit."""
    check_images(x0, x0.shape[1:], bound=None)
    if decoder not in DECODERS:
        raise ValueError(f"decoder: expected one of {', '.join(DECODERS)}, got {decoder!r}")
    ends = [step.s for step in grid[:-1]] == [step.t for step in grid[1:]] and len(grid) > 0 and grid[-1].s == -1
    if not ends or any(not step.s < step.t < schedule.T for step in grid):
        raise ValueError(
            f"grid: expected steps that lead from below T = {schedule.T} down to -1 without a gap, got {grid}"
        )
    if decoder == "bytes":
        values = (x0 + 1) * BYTE
        if (values - values.round()).abs().max() > 1e-2 or not 0 <= values.round().min() <= values.round().max() <= 255:
            raise ValueError("x0: expected 8-bit values k / 127.5 - 1; use eight_bit(pictures), or decoder='density'")
