"""Differentiable augmentations: the same picture in other light, elsewhere, larger or smaller, with a piece missing.

Zhao et al., "Differentiable augmentation for data-efficient GAN training" (NeurIPS 2020), with their ranges; the paper of
CycleDiffusion puts resizing to them. What a judge says of many such copies is hard to fool.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.seeds import Seeds, as_seeds, uniform

SHIFT, RESIZE, HOLE = 0.125, 0.25, 0.5  # of the side: moved by up to, resized by up to, side of the missing square


def augment(images: Tensor, seeds: Seeds = 0, stream: str = "augment") -> Tensor:
    """images (B, C, H, W) in [-1, 1] -> the same shape: `recolour`, `move` and `cut_out` by numbers drawn from seeds (B,).

    Item i depends on seed i and `stream` alone. Differentiable in the images.
    """
    draws = uniform(as_seeds(seeds, len(images), images.device), (8,), stream, torch.float64).to(images.dtype)
    light, place, hole = draws.split([3, 3, 2], dim=1)
    return cut_out(move(recolour(images, light), place), hole)


def recolour(images: Tensor, draws: Tensor) -> Tensor:
    """Brightness by up to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5, from draws (B, 3) in (0, 1)."""
    brightness, saturation, contrast = draws.T[..., None, None, None]  # (B, 1, 1, 1) each
    images = images + (brightness - 0.5)
    images = _stretch(images, images.mean(1, keepdim=True), 2 * saturation)
    return _stretch(images, images.mean((1, 2, 3), keepdim=True), 0.5 + contrast)


def move(images: Tensor, draws: Tensor) -> Tensor:
    """Shifted by up to SHIFT of the sides and resized by up to RESIZE about the middle; grey (0) comes in from outside."""
    right, down, size = (2 * draws - 1).T  # (B,) each, in (-1, 1)
    size, zero = 1 + RESIZE * size, torch.zeros_like(size)
    rows = [[1 / size, zero, 2 * SHIFT * right], [zero, 1 / size, 2 * SHIFT * down]]  # sides are 2 long in a grid
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def cut_out(images: Tensor, draws: Tensor) -> Tensor:
    """Grey (0) in a square with HOLE of the side, its middle anywhere, from draws (B, 2) in (0, 1)."""
    keep = [
        ((torch.arange(side, device=images.device) + 0.5) / side - middle[:, None]).abs() > HOLE / 2
        for side, middle in zip(images.shape[2:], draws.T, strict=True)
    ]
    return images * (keep[0][:, None, :, None] | keep[1][:, None, None, :])


def _stretch(images: Tensor, about: Tensor, factor: Tensor) -> Tensor:
    return about + factor * (images - about)
