"""The code of a picture by search, for generators that do not run backwards: what a GAN calls projection.

Abdal, Qin & Wonka, "Image2StyleGAN" (ICCV 2019); Karras et al., CVPR 2020, section 5. Searched is the likeliest code of
p(code) p(image | code): the top of the very distribution that guidance by the `pixels` energy draws from.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.energies import pixels
from minidiff.generators import Generator
from minidiff.langevin import potential


@dataclass(frozen=True)
class ProjectionStep:
    """Where the search is after `step` of `total` steps: code (B, *code_shape), and the mean squared error of its picture,
    (B,)."""

    step: int
    total: int
    code: Tensor
    error: Tensor


def project(
    model: Generator, images: Tensor, steps: int = 200, lr: float = 0.1, sigma: float = 0.1, start: Tensor | None = None
) -> Iterator[ProjectionStep]:
    """Adam on U(z) = 0.5 |z|^2 + 0.5 |images - decode(z)|^2 / sigma^2 from z = 0; yields the start, then every step.

    Each step decodes once and takes its gradient: about three times the work of `decode`, so 200 steps are 600 pictures made
    for each picture encoded. `lr` falls along a half cosine. A picture's search does not depend on the others.
    Raises ValueError for a start of another shape or settings that are not positive.
    """
    for name, value in (("steps", steps), ("lr", lr), ("sigma", sigma)):
        if not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")
    shape = (len(images), *model.code_shape)
    code = images.new_zeros(shape) if start is None else start.clone()
    if tuple(code.shape) != shape:
        raise ValueError(f"start: expected shape {shape}, got {tuple(code.shape)}")
    energy, seeds = pixels(images) * (1 / sigma**2), torch.zeros(len(images), dtype=torch.long, device=images.device)
    adam = torch.optim.Adam([code], lr)
    for step in range(steps + 1):
        now = potential(model, energy, code, seeds)
        yield ProjectionStep(step, steps, code.clone(), 2 * now.parts[:, 0] / images[0].numel())
        code.grad = now.gradient
        adam.param_groups[0]["lr"] = lr * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        adam.step()
