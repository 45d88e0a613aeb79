"""Pictures that know less: small, blurred, or with a hole. What a conditional model is shown, and has to make up for.

Super-resolution, "blurred variants" and inpainting of Rombach et al. (CVPR 2022, sections 4.4 and 4.5), in miniature.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.seeds import Seeds, as_seeds, uniform

BLUR = (1.5, 4.0)  # the range of sigma, in pixels of a picture of 64, that a model learns to undo


def shrink(images: Tensor, factor: int = 4) -> Tensor:
    """(B, C, H, W) -> (B, C, H / factor, W / factor), each value the mean of its square."""
    if images.shape[-1] % factor or images.shape[-2] % factor:
        raise ValueError(f"factor: expected a divisor of {tuple(images.shape[2:])}, got {factor}")
    return F.avg_pool2d(images, factor)


def blur(images: Tensor, sigma: float | Tensor) -> Tensor:
    """Gaussian blur of (B, C, H, W) by `sigma` pixels, a number or one per item; at the edges the weights are renormalised."""
    sigma = torch.as_tensor(sigma, dtype=images.dtype, device=images.device).expand(len(images))
    if not (sigma > 0).all():
        raise ValueError(f"sigma: expected positive numbers of pixels, got {sigma.tolist()}")
    down, across = (_weights(size, sigma) for size in images.shape[2:])
    return torch.einsum("bhi,bciw->bchw", down, torch.einsum("bwj,bchj->bchw", across, images))


def _weights(size: int, sigma: Tensor) -> Tensor:
    """How much of each place goes into each other: (B, size, size), rows that sum to 1."""
    place = torch.arange(size, dtype=sigma.dtype, device=sigma.device)
    return torch.softmax(-((place[:, None] - place) ** 2) / (2 * sigma[:, None, None] ** 2), dim=2)


def random_sigmas(seeds: Seeds, count: int, size: int = 64) -> Tensor:
    """One blur for each item, (count,), evenly spread over BLUR for pictures of that size."""
    low, high = (limit * size / 64 for limit in BLUR)
    return low + (high - low) * uniform(as_seeds(seeds, count), stream="blur")


def random_masks(seeds: Seeds, count: int, size: int) -> Tensor:
    """One mask for each item, (count, 1, size, size): 0 in a hole, 1 where the picture is known.

    Half of the holes are rectangles of a quarter to three quarters of the side, the others all beyond a line near the
    middle.
    """
    seeds = as_seeds(seeds, count)
    draw = uniform(seeds, (6,), "mask").T[..., None, None]  # (6, B, 1, 1)
    axis = (torch.arange(size, device=seeds.device) + 0.5) / size
    x, y = axis[None, None, :], axis[None, :, None]
    width, height = 0.25 + 0.5 * draw[0], 0.25 + 0.5 * draw[1]
    left, top = draw[2] * (1 - width), draw[3] * (1 - height)
    rectangle = (left <= x) & (x < left + width) & (top <= y) & (y < top + height)
    angle = 2 * torch.pi * draw[2]
    beyond = (x - 0.5) * angle.cos() + (y - 0.5) * angle.sin() > 0.4 * (draw[3] - 0.5)
    hole = torch.where(draw[4] < 0.5, rectangle, beyond)
    return (~hole[:, None]).float()
