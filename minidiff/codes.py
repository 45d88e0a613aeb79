"""Codes are points of a standard normal space: how far a code is from that, and how to move about in it.

Statistics of encoded noises: Huberman-Spiegelglas et al., "An edit friendly DDPM noise space" (2024), section 3.1;
slerp: Shoemake, "Animating rotation with quaternion curves" (1985), used for codes by Song et al. (DDIM, 2021), 5.3;
principal directions of codes: Harkonen et al., "GANSpace" (2020).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.denoiser import Prediction
from minidiff.samplers import Grid, Sampler

NEARLY_1 = 1 - 2**-22  # a cosine that float32 tells from 1: equal codes keep an angle, and a gradient, to divide by


class CodeStatistics(NamedTuple):
    """Per block: mean and std (blocks,), and lag1 (blocks - 1,), the correlation of each block with the next."""

    mean: Tensor
    std: Tensor
    lag1: Tensor


def code_statistics(code: Tensor) -> CodeStatistics:
    """The statistics of codes (B, blocks, C, H, W), in float64; of N(0, I) they would be 0, 1 and 0.

    Correlation is taken about 0 pixel by pixel, so a shift that two blocks share counts as well.
    Raises ValueError for another shape.
    """
    if code.ndim != 5:
        raise ValueError(f"code: expected shape (B, blocks, C, H, W), got {tuple(code.shape)}")
    blocks = code.double().transpose(0, 1).flatten(1)  # (blocks, B * C * H * W)
    return CodeStatistics(blocks.mean(1), blocks.std(1), torch.cosine_similarity(blocks[:-1], blocks[1:], dim=1))


def predicted_std(sampler: Sampler, grid: Grid, data_std: float) -> Tensor:
    """The std (steps,), float64, of the noises of `dpm_encode` for data N(m, data_std^2) and its ideal denoiser.

    A block is fresh noise and what even the best denoiser cannot know of eps, in units of the sampler's std. Early steps
    are noisy enough to hide that: their blocks are standard normal. The last noises are not: theirs grow as 1 / eta.
    The residual, where the sampler's std is 0, counts in the units of x0.
    """
    found, zero = [], torch.zeros((), dtype=torch.float64)
    for step in grid:
        signal, noise = sampler.schedule.levels(step.t, zero)
        per_eps, std = sampler.transition(
            zero, Prediction(zero - noise / signal, zero + 1), step
        )  # at one and the same x_t
        unknown = (signal * data_std) ** 2 / ((signal * data_std) ** 2 + noise**2)  # the variance of eps, given x_t
        found.append((sampler.posterior.std(step) ** 2 + per_eps**2 * unknown).sqrt() / (std or 1.0))
    return torch.stack(found)


def slerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    """From code a (weight 0) to code b (weight 1) along the great circle, which keeps the norm of normal codes.

    Each block of (B, blocks, C, H, W), or each row of (B, dim), moves on its own sphere; weight is a number or (B,).
    Raises ValueError when the shapes differ.
    """
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"a, b: expected codes of one shape (B, ...), got {tuple(a.shape)} and {tuple(b.shape)}")
    dims = tuple(range(2, a.ndim)) or (1,)
    weight = torch.as_tensor(weight, dtype=a.dtype, device=a.device).reshape((-1,) + (1,) * (a.ndim - 1))
    norms = (a.square().sum(dims, keepdim=True) * b.square().sum(dims, keepdim=True)).clamp(min=1e-24).sqrt()
    cosine = (a * b).sum(dims, keepdim=True) / norms
    angle = cosine.clamp(-NEARLY_1, NEARLY_1).arccos()
    return (((1 - weight) * angle).sin() * a + (weight * angle).sin() * b) / angle.sin()


def lerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    """From code a (weight 0) to code b (weight 1) straight on, for codes (B, ...); weight is a number or (B,).

    Half way between two normal codes the std is only sqrt(1/2): pictures there are as dull as `slerp`'s are not.
    """
    weight = torch.as_tensor(weight, dtype=a.dtype, device=a.device).reshape((-1,) + (1,) * (a.ndim - 1))
    return a + weight * (b - a)


def combine(codes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Arithmetic: sum_k w_k z_k / |w| of codes (B, ...), so a - b + c of independent normal codes is a normal code again.

    Raises ValueError for codes of several shapes, or weights that are not one for each code or all zero.
    """
    if len(codes) != len(weights) or not any(weights) or len({code.shape for code in codes}) > 1:
        shapes = [tuple(code.shape) for code in codes]
        raise ValueError(f"codes, weights: expected codes of one shape and a weight for each, got {shapes}, {weights}")
    return sum(weight * code for weight, code in zip(weights, codes, strict=True)) / math.hypot(*weights)


def difference(having: Tensor, lacking: Tensor) -> Tensor:
    """The mean code of those (N, ...) that have something less the mean of those (M, ...) that lack it: (1, ...).

    `code + amount * difference(...)` goes that way.
    """
    return having.mean(0, keepdim=True) - lacking.mean(0, keepdim=True)


class Directions(NamedTuple):
    """Codes as mean + sum_k std_k n_k axis_k: mean (...), axes (K, ...) of norm 1, std (K,) along them, falling."""

    mean: Tensor
    axes: Tensor
    std: Tensor


def principal_directions(codes: Tensor, count: int) -> Directions:
    """The `count` orthogonal directions along which codes (N, ...) vary most; the largest entry of each is positive.

    Of codes drawn at random they mean nothing; of codes that share something (one individual's) they show what is free.
    Raises ValueError unless 1 <= count < N.
    """
    if not 1 <= count < len(codes):
        raise ValueError(f"count: expected from 1 to {len(codes) - 1}, one less than the codes, got {count}")
    mean = codes.mean(0)
    _, lengths, axes = torch.linalg.svd((codes - mean).flatten(1), full_matrices=False)
    axes = axes[:count] * axes[:count].gather(1, axes[:count].abs().argmax(1, keepdim=True)).sign()
    return Directions(mean, axes.reshape(count, *mean.shape), lengths[:count] / math.sqrt(len(codes) - 1))


class Neighbours(NamedTuple):
    """The nearest of some codes to each of others, nearest first: index (B, K) and cosine (B, K)."""

    index: Tensor
    cosine: Tensor


def nearest(codes: Tensor, among: Tensor, count: int = 1) -> Neighbours:
    """The `count` codes of `among` (N, ...) at the least angle to each of `codes` (B, ...), all blocks together.

    Random codes of dimension D have cosines of about +-1 / sqrt(D). Raises ValueError for another shape or count.
    """
    if codes.shape[1:] != among.shape[1:] or not 1 <= count <= len(among):
        raise ValueError(
            f"codes, among: expected codes of one shape and a count up to {len(among)}, "
            f"got {tuple(codes.shape)}, {tuple(among.shape)} and {count}"
        )
    a, b = (F.normalize(part.flatten(1), dim=1) for part in (codes, among))
    cosine, index = (a @ b.T).topk(count, dim=1)
    return Neighbours(index, cosine)
