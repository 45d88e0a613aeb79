"""A sampler step is a Gaussian: given x_t and what a denoiser sees in it, x_s ~ N(mean, std^2); one loop runs them all.

Samplers differ in how well they look before they step (`look`) and in how much noise the step draws (`transition`).

DDIM: Song, Meng & Ermon, "Denoising diffusion implicit models" (2021), eqs. 12 and 16; DDPM: Ho et al. (2020), eqs. 6
and 7. With the noises held in a `code` sampling is a deterministic map: Wu & De la Torre, "A latent space of
stochastic diffusion models" (2023), section 3.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from minidiff.denoiser import Prediction
from minidiff.schedule import Schedule, Step
from minidiff.seeds import Seeds, as_seeds, normals

Grid = Sequence[Step]
DenoiserLike = Callable[[Tensor, float], Prediction]
AT_ONCE = 2**15  # numbers drawn together: more would leave the cache


class Sampler(Protocol):
    """What the loop and the encoders need to know. eta = 0 says that no step draws noise."""

    schedule: Schedule
    eta: float

    def look(self, denoiser: DenoiserLike, x_t: Tensor, step: Step, seen: Any = None) -> tuple[Prediction, Any]:
        """What the transition is to believe of x_t, and what the next look wants to know (`seen`; None at first)."""

    def calls(self, grid: Grid) -> int:
        """How often the looks of a grid ask the denoiser."""

    def std(self, step: Step) -> float:
        """The standard deviation of x_s given x_t; 0 where the step lands on clean data."""

    def transition(self, x_t: Tensor, prediction: Prediction, step: Step) -> tuple[Tensor, float]:
        """The Gaussian of x_s: (mean (B, C, H, W), std)."""

    @property
    def posterior(self) -> "Sampler":
        """The sampler whose transition, fed the true x0 and eps, is q(x_s | x_t, x0)."""


class OneLook:
    """Ask the denoiser once a step and believe it: the look of every method of first order."""

    def look(self, denoiser: DenoiserLike, x_t: Tensor, step: Step, seen: Any = None) -> tuple[Prediction, Any]:
        return denoiser(x_t, step.t), None

    def calls(self, grid: Grid) -> int:
        return len(grid)


@dataclass(frozen=True)
class DDIM(OneLook):
    """mean = sqrt(abar_s) x0 + sqrt(1 - abar_s - std^2) eps, std = eta times DDPM's (Song et al., eqs. 12 and 16).

    Raises ValueError for eta outside [0, 1]; 0 is the probability-flow ODE, 1 has DDPM's Gaussians.
    """

    schedule: Schedule
    eta: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: expected a number in [0, 1], got {self.eta!r}")

    def std(self, step: Step) -> float:
        return self.eta * posterior_std(self.schedule, step)

    def transition(self, x_t: Tensor, prediction: Prediction, step: Step) -> tuple[Tensor, float]:
        abar_s, std = self.schedule.abar_at(step.s), self.std(step)
        mean = math.sqrt(abar_s) * prediction.x0 + math.sqrt(1 - abar_s - std**2) * prediction.eps
        return mean, std

    @property
    def posterior(self) -> "DDIM":
        return self


@dataclass(frozen=True)
class DDPM(OneLook):
    """The posterior mean of x_s, and its variance ("small") or the forward step's ("large") (Ho et al., section 3.2).

    Raises ValueError for another `variance`.
    """

    schedule: Schedule
    variance: str = "small"
    eta: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if self.variance not in ("small", "large"):
            raise ValueError(f"variance: expected 'small' or 'large', got {self.variance!r}")

    def std(self, step: Step) -> float:
        if self.variance == "small" or step.s == -1:  # clean data carries no noise
            return posterior_std(self.schedule, step)
        return math.sqrt(1 - self.schedule.abar_at(step.t) / self.schedule.abar_at(step.s))

    def transition(self, x_t: Tensor, prediction: Prediction, step: Step) -> tuple[Tensor, float]:
        abar_t, abar_s = self.schedule.abar_at(step.t), self.schedule.abar_at(step.s)
        alpha = abar_t / abar_s  # of the whole step: a grid may skip noise levels
        to_x0 = math.sqrt(abar_s) * (1 - alpha) / (1 - abar_t)
        to_x_t = math.sqrt(alpha) * (1 - abar_s) / (1 - abar_t)
        return to_x0 * prediction.x0 + to_x_t * x_t, self.std(step)

    @property
    def posterior(self) -> "DDPM":
        return DDPM(self.schedule, "small")


def posterior_std(schedule: Schedule, step: Step) -> float:
    """The std of q(x_s | x_t, x0): sqrt((1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s)) (Ho et al., eq. 7)."""
    abar_t, abar_s = schedule.abar_at(step.t), schedule.abar_at(step.s)
    return math.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))


def draw(mean: Tensor, std: float, block: Tensor) -> Tensor:
    """x_s = mean + std * block; where std is 0 the block is the residual x_s - mean itself."""
    return mean + (std or 1.0) * block


def solve(mean: Tensor, std: float, x_s: Tensor) -> Tensor:
    """The block with which `draw` gives x_s: DPM-Encoder's one idea (Wu & De la Torre, eq. 7)."""
    return (x_s - mean) / (std or 1.0)


@dataclass(frozen=True)
class SampleStep:
    """One step done: the state x (B, C, H, W) after it and the prediction it used; index counts 0 .. total - 1."""

    step: Step
    x: Tensor
    prediction: Prediction
    index: int
    total: int


def sampling(denoiser: DenoiserLike, sampler: Sampler, grid: Grid, code: Tensor) -> Iterator[SampleStep]:
    """Decode a code (B, blocks, C, H, W) step by step; block 0 is x_T, block k the noise of step k.

    The last state is x0. Raises ValueError when the code does not have `count_blocks` blocks.
    """
    blocks = count_blocks(sampler, grid)
    if code.ndim != 5 or code.shape[1] != blocks or not code.is_floating_point():
        raise ValueError(f"code: expected floats (B, {blocks}, C, H, W), got {code.dtype} of shape {tuple(code.shape)}")
    x, *noises = code.unbind(1)
    seen = None
    for index, (step, noise) in enumerate(zip(grid, noises or [None] * len(grid), strict=True)):
        prediction, seen = sampler.look(denoiser, x, step, seen)
        mean, std = sampler.transition(x, prediction, step)
        x = mean if noise is None else draw(mean, std, noise)
        yield SampleStep(step, x, prediction, index, len(grid))


def decode_code(denoiser: DenoiserLike, sampler: Sampler, grid: Grid, code: Tensor, recompute: bool = False) -> Tensor:
    """code (B, blocks, C, H, W) -> x0 (B, C, H, W), deterministic. Differentiable when the code requires grad.

    With `recompute` a gradient looks through the network once more at each step instead of remembering what it saw there:
    the memory of one step and S states instead of S steps, for about a third more time (Chen et al., "Training deep nets
    with sublinear memory cost", 2016).
    """
    with grad_of(code):
        if recompute and torch.is_grad_enabled():
            denoiser = partial(checkpoint, denoiser, use_reentrant=False, preserve_rng_state=False)
        for state in sampling(denoiser, sampler, grid, code):
            x0 = state.x
        return x0


def grad_of(code: Tensor) -> AbstractContextManager:
    """Remember the steps for autograd only where the code asks for it: fifty network calls fill a memory fast."""
    return torch.set_grad_enabled(torch.is_grad_enabled() and code.requires_grad)


def count_blocks(sampler: Sampler, grid: Grid) -> int:
    """The start and one block for each step; the start alone when eta = 0."""
    return len(grid) + 1 if sampler.eta > 0 else 1


def random_code(
    shape: Sequence[int],
    grid: Grid,
    sampler: Sampler,
    seeds: Seeds = 0,
    *,
    count: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    stream: str = "code",
) -> Tensor:
    """A standard normal code (B, blocks, *shape) for latents of `shape` (C, H, W); residual blocks are 0.

    `seeds` gives one item each; with an int s, `count` items (1 by default) have seeds s, s + 1, ...
    """
    if count is None:
        count = 1 if isinstance(seeds, int) else len(seeds)
    seeds = as_seeds(seeds, count, device)
    code = torch.zeros(count, count_blocks(sampler, grid), *shape, dtype=dtype, device=device)
    noisy = [k for k in range(code.shape[1]) if k == 0 or sampler.std(grid[k - 1]) > 0]
    at_once = max(1, AT_ONCE // max(1, count * math.prod(shape)))
    for first in range(0, len(noisy), at_once):
        blocks = noisy[first : first + at_once]
        drawn = normals(seeds, shape, [f"{stream} {k}" for k in blocks], dtype)
        for k, block in zip(blocks, drawn.unbind(1), strict=True):
            code[:, k] = block
    return code
