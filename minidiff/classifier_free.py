"""Classifier-free guidance: a denoiser that exaggerates what its condition says. It is itself a denoiser.

Ho & Salimans, "Classifier-free diffusion guidance" (2022), equation 6; intervals: Kynkaanniemi et al., "Applying
guidance in a limited interval" (NeurIPS 2024).
"""

import copy
import math

import torch
from torch import Tensor, nn

from minidiff.conditioning import Condition, join
from minidiff.denoiser import Denoiser, Prediction
from minidiff.schedule import Schedule


class Guided(nn.Module):
    """A denoiser bound to a condition: null + scale (given - null), of the prediction of x0 and of eps alike.

    scale 1 is the plain conditional model and asks the network once; 0 is the model told nothing; above 1 exaggerates.
    So it is diffusers' `guidance_scale`, latent diffusion's s, and 1 + w with the w of Ho & Salimans. It may also be one
    number per item (B,). `null` is what the model is told instead (the empty caption; a negative prompt). Outside
    `interval`, a part of the noise axis with 0 clean and 1 pure noise, the scale is 1.
    Raises ValueError for a scale that is not finite, an interval that is none, or a missing null.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        given: Condition,
        null: Condition | None = None,
        scale: float | Tensor = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        scale = torch.as_tensor(scale, dtype=torch.float64)
        if not scale.isfinite().all() or scale.ndim > 1:
            raise ValueError(f"scale: expected a finite number, or one per item, got {scale.tolist()}")
        low, high = interval
        if not (math.isfinite(low) and 0 <= low < high <= 1):
            raise ValueError(f"interval: expected (low, high) with 0 <= low < high <= 1, got {interval}")
        if null is None and (scale != 1).any():
            raise ValueError("null: guidance needs the condition to lead away from; only scale 1 does without")
        self.denoiser, self.given, self.null = denoiser, given, null
        self.scale, self.interval = scale, (low, high)
        self.guides = bool((scale != 1).any())  # anywhere, for any item

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def forward(self, x_t: Tensor, t: float | Tensor) -> Prediction:
        """x_t (B, C, H, W) at noise level t, a number or (B,) -> Prediction in the dtype of x_t."""
        given = self.given.repeat(len(x_t))
        scale = self.scale_at(t, x_t)
        if (scale == 1).all():
            return self.denoiser(x_t, t, **given.parts())
        twice = t.repeat(2) if torch.is_tensor(t) else t
        both = self.denoiser(x_t.repeat(2, 1, 1, 1), twice, **join(given, self.null.repeat(len(x_t))).parts())
        return Prediction(*(guide(*part.chunk(2), scale) for part in both))

    def scale_at(self, t: float | Tensor, x_t: Tensor) -> Tensor:
        """The scale of each item at its noise level, as (B, 1, 1, 1)."""
        low, high = self.interval
        part = torch.as_tensor(t, device=x_t.device).expand(len(x_t)) / (self.schedule.T - 1)
        scale = torch.where((low <= part) & (part <= high), self.scale.to(x_t.device), 1.0)
        return scale.to(x_t.dtype).view(-1, 1, 1, 1)

    def rows(self, index: slice | Tensor) -> "Guided":
        """The same for some of the items."""
        part = copy.copy(self)  # not a new one: the progress bar listens to this one's hooks
        part.given, part.null = self.given.rows(index), self.null and self.null.rows(index)
        part.scale = self.scale if self.scale.ndim == 0 else self.scale[index]
        return part


def guide(given: Tensor, null: Tensor, scale: Tensor) -> Tensor:
    """null + scale (given - null), written so that scale 1 gives `given` to the last bit."""
    return given + (scale - 1) * (given - null)
