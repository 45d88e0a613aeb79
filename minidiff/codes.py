"""Codes are points of a standard normal space: how far a code is from that, and how to walk from one to another.

Statistics of encoded noises: Huberman-Spiegelglas et al., "An edit friendly DDPM noise space" (2024), section 3.1;
slerp: Shoemake, "Animating rotation with quaternion curves" (1985), used for codes by Song et al. (DDIM, 2021), 5.3.
"""

from typing import NamedTuple

import torch
from torch import Tensor

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
