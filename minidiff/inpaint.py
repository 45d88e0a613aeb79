"""Painting what is missing: the model sees the known part and draws a whole picture; the known pixels are put back.

Rombach et al., "High-resolution image synthesis with latent diffusion models" (CVPR 2022), section 4.5.
"""

import torch
from torch import Tensor

from minidiff.generators import Fast, LatentDiffusion
from minidiff.seeds import Seeds


@torch.no_grad()
def inpaint(
    model: LatentDiffusion, images: Tensor, mask: Tensor, seeds: Seeds = 0, fast: Fast = False, **given
) -> Tensor:
    """images (B, C, H, W) in [-1, 1] with the holes of mask (B, 1, H, W) painted; where mask is 1 they are untouched.

    `given` says what to paint: text, label, scale (see `LatentDiffusion.given`); `fast` as in `LatentDiffusion.sample`.
    What the images hold inside the holes has no say.
    Raises ValueError for a mask that is not binary or a model that was not trained for it.
    """
    painted = model.given(known=(images, mask), **given).sample(len(images), seeds, fast=fast)
    return paste(images, painted, mask)


def paste(images: Tensor, painted: Tensor, mask: Tensor) -> Tensor:
    """The images where mask is 1, what was painted where it is 0, to the last bit."""
    return torch.where(mask.bool(), images, painted)
