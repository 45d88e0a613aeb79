"""Where two captions disagree about a picture: what an edit may change, found by the model itself.

Noise the picture and ask twice what is behind the noise, once under each caption: the answers differ where the captions say
different things. Couairon et al., "DiffEdit: diffusion-based semantic image editing with mask guidance" (ICLR 2023), section 3.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.seeds import normal

LEVELS = tuple(0.25 + 0.5 * (k + 0.5) / 8 for k in range(8))  # parts of the noise axis: eight in its middle half


@torch.no_grad()
def disagreement(source: nn.Module, target: nn.Module, latents: Tensor, seeds: Tensor) -> Tensor:
    """(B, 1, h, w) in [0, 1]: how far apart two told denoisers see x0 of latents (B, c, h, w), relative to the worst place.

    Averaged over the channels, over LEVELS, each with a noise of its own, and half of it over the neighbours.
    """
    schedule, squares = source.schedule, 0.0
    for level in LEVELS:
        t = level * (schedule.T - 1)
        x_t = schedule.add_noise(latents, normal(seeds, latents.shape[1:], f"disagreement {level}", latents.dtype), t)
        squares = squares + (target(x_t, t).x0 - source(x_t, t).x0).square().mean(1, keepdim=True)
    distance = squares.sqrt()
    around = F.avg_pool2d(F.pad(distance, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = (distance + around) / 2
    return mixed / mixed.amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(mixed.dtype).tiny)


def blend(images: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """The edit where mask (B, 1, h, w) is 1, the images (B, C, H, W) themselves where it is 0, softly in between."""
    return torch.lerp(images, edited, F.interpolate(mask, images.shape[2:], mode="bilinear", align_corners=False))
