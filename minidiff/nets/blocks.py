"""The two parts every network here is made of: a residual convolution block and self-attention.

Both start as the identity (their last layer is zero), so a deep network begins as a shallow one and learns its depth
(He et al., CVPR 2016, section 3; Ho, Jain & Abbeel, NeurIPS 2020, appendix B for the arrangement).
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))): (B, c_in, H, W) -> (B, c_out, H, W).

    With `time` > 0 the second norm is scaled and shifted by the time embedding (B, time), as in Dhariwal & Nichol
    (NeurIPS 2021, section 3.1): this is how the network learns how noisy its input is.
    """

    def __init__(self, c_in: int, c_out: int, time: int = 0):
        super().__init__()
        self.norm1, self.conv1 = norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = norm(c_out), zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.time = zero(nn.Linear(time, 2 * c_out)) if time else None
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.time is not None:
            scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)  # (B, c_out, 1, 1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class SelfAttention(nn.Module):
    """Every place looks at every other: (B, C, H, W) -> same (Vaswani et al., NeurIPS 2017, equation 1)."""

    def __init__(self, channels: int, head: int = 32):
        super().__init__()
        if channels % head:
            raise ValueError(f"channels: expected a multiple of the head width {head}, got {channels}")
        self.heads = channels // head
        self.norm, self.qkv = norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(3, 4).unbind(1)  # each (B, heads, H*W, head)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(2, 3).reshape(b, c, h, w))


def time_embedding(t: Tensor, width: int, longest: float = 10_000.0) -> Tensor:
    """Sines and cosines of t (B,) at `width` / 2 frequencies: (B, width) (Vaswani et al., section 3.5).

    Wavelengths grow geometrically from 2 pi to 2 pi * `longest`: neighbours differ in the fast waves, ends in the slow.
    """
    frequencies = torch.exp(-math.log(longest) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu & He, ECCV 2018) with 8 groups, or the most below that divide `channels`."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


def zero(layer: nn.Module) -> nn.Module:
    """The layer with all its parameters set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
