"""The denoising network: a U-Net with two or more levels, told the noise level, with self-attention at each level.

Down, through the middle and up again, with a copy of every level handed across (Ronneberger et al., MICCAI 2015);
time enters each residual block (Ho, Jain & Abbeel, NeurIPS 2020, appendix B; Dhariwal & Nichol, NeurIPS 2021).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minidiff.nets.blocks import ResBlock, SelfAttention, norm, time_embedding, zero


@dataclass(frozen=True)
class UNetConfig:
    """`channels` per level, each level half the resolution of the one before; most weight sits where pixels are few."""

    in_channels: int = 8
    channels: tuple[int, ...] = (96, 224)
    attention: tuple[bool, ...] = (True, True)
    out_channels: int | None = None  # None: as many as go in
    time: int = 256  # width of the time embedding

    def __post_init__(self):
        if len(self.channels) != len(self.attention):
            raise ValueError(f"attention: expected one flag for each of channels {self.channels}, got {self.attention}")


class UNet(nn.Module):
    """(x (B, C, H, W), t (B,) integer or float) -> (B, C, H, W); H and W are multiples of 2^(levels - 1)."""

    def __init__(self, config: UNetConfig = UNetConfig()):
        super().__init__()
        self.config = config
        widths, time = config.channels, config.time
        self.time = nn.Sequential(nn.Linear(widths[0], time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.first = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        levels = list(zip((widths[0], *widths[:-1]), widths, config.attention, strict=True))
        self.down = nn.ModuleList(Stage(c_in, c, attention, time) for c_in, c, attention in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in widths[:-1])
        self.middle = ResBlock(widths[-1], widths[-1], time)
        self.up = nn.ModuleList(Stage(2 * c, c, attention, time) for _, c, attention in levels)
        self.grow = nn.ModuleList(Grow(c, c_out) for c_out, c in pairwise(widths))
        self.norm = norm(widths[0])
        self.last = zero(nn.Conv2d(widths[0], config.out_channels or config.in_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.check(x, t)
        time = self.time(time_embedding(t, self.config.channels[0]).to(x.dtype))  # (B, time)
        h = self.first(x)
        crossings = []
        for level, stage in enumerate(self.down):
            h = stage(h if level == 0 else self.shrink[level - 1](h), time)
            crossings.append(h)
        h = self.middle(h, time)
        for level in reversed(range(len(self.up))):
            h = self.up[level](torch.cat([h, crossings[level]], dim=1), time)
            h = self.grow[level - 1](h) if level else h
        return self.last(F.silu(self.norm(h)))

    def check(self, x: Tensor, t: Tensor) -> None:
        """Raises ValueError naming the argument that does not fit."""
        multiple = 2 ** (len(self.config.channels) - 1)
        if x.ndim != 4 or x.shape[1] != self.config.in_channels or x.shape[2] % multiple or x.shape[3] % multiple:
            raise ValueError(
                f"x: expected (B, {self.config.in_channels}, H, W) with H and W multiples of {multiple}, "
                f"got {tuple(x.shape)}"
            )
        if t.shape != x.shape[:1]:
            raise ValueError(f"t: expected one time per item, shape ({len(x)},), got {tuple(t.shape)}")


class Stage(nn.Module):
    """One level on the way down or up: a residual block, then attention."""

    def __init__(self, c_in: int, c_out: int, attention: bool, time: int):
        super().__init__()
        self.block = ResBlock(c_in, c_out, time)
        self.attention = SelfAttention(c_out) if attention else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.attention(self.block(x, time))


class Grow(nn.Sequential):
    """Twice the resolution by depth-to-space: four times cheaper than upsampling before a convolution."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(nn.Conv2d(c_in, 4 * c_out, 1), nn.PixelShuffle(2))  # (B, c_out, 2 H, 2 W)
