"""The denoising network: a U-Net with two or more levels, told the noise level and, by two routes, what to draw.

Down, through the middle and up again, with a copy of every level handed across (Ronneberger et al., MICCAI 2015);
time enters each residual block (Ho, Jain & Abbeel, NeurIPS 2020, appendix B; Dhariwal & Nichol, NeurIPS 2021);
tokens enter by cross-attention, pictures by concatenation (Rombach et al., CVPR 2022, section 3.3).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minidiff.nets.blocks import CrossAttention, ResBlock, SelfAttention, norm, time_embedding, zero


@dataclass(frozen=True)
class UNetConfig:
    """`channels` per level, each level half the resolution of the one before; most weight sits where pixels are few.

    patch: side of the squares of x that the first layer sees as one place, so that pictures need not be encoded to be few;
    context: width of the tokens it attends to (0: none); classes: how many class labels have a token of their own;
    maps: channels of a picture-like condition, map_factor times finer than x, of which map_features are made and
    concatenated with x.
    """

    in_channels: int = 8
    channels: tuple[int, ...] = (96, 224)
    attention: tuple[bool, ...] = (True, True)
    out_channels: int | None = None  # None: as many as go in
    patch: int = 1
    time: int = 256  # width of the time embedding
    context: int = 0
    classes: int = 0
    maps: int = 0
    map_features: int = 32
    map_factor: int = 8

    def __post_init__(self):
        if self.classes and not self.context:
            raise ValueError(f"context: {self.classes} classes need tokens of some width, got context 0")
        if self.map_factor % 2 or self.map_factor < 2:
            raise ValueError(f"map_factor: expected an even number, got {self.map_factor}")
        if self.patch < 1:
            raise ValueError(f"patch: expected a side of at least 1, got {self.patch}")
        if self.maps and self.patch > 1:
            raise ValueError(f"maps: a network that sees patches takes none, got {self.maps} and patch {self.patch}")
        if len(self.channels) != len(self.attention):
            raise ValueError(f"attention: expected one flag for each of channels {self.channels}, got {self.attention}")


class UNet(nn.Module):
    """(x (B, C, H, W), t (B,) integer or float) -> (B, C, H, W); H and W are multiples of patch * 2^(levels - 1)."""

    def __init__(self, config: UNetConfig = UNetConfig()):
        super().__init__()
        self.config = config
        widths, time, context = config.channels, config.time, config.context
        self.time = nn.Sequential(nn.Linear(widths[0], time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.labels = nn.Embedding(config.classes, context) if config.classes else None
        self.map_encoder = make_map_encoder(config) if config.maps else None
        given = config.map_features if config.maps else 0
        inside, outside = (c * config.patch**2 for c in (config.in_channels, config.out_channels or config.in_channels))
        self.first = nn.Conv2d(inside + given, widths[0], 3, padding=1)
        levels = list(zip((widths[0], *widths[:-1]), widths, config.attention, strict=True))
        self.down = nn.ModuleList(Stage(c_in, c, attention, time, context) for c_in, c, attention in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in widths[:-1])
        self.middle = ResBlock(widths[-1], widths[-1], time)
        self.up = nn.ModuleList(Stage(2 * c, c, attention, time, context) for _, c, attention in levels)
        self.grow = nn.ModuleList(Grow(c, c_out) for c_out, c in pairwise(widths))
        self.norm = norm(widths[0])
        self.last = zero(nn.Conv2d(widths[0], outside, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """tokens (B, L, context) with mask (B, L), True where there is one; features (B, map_features, H, W)."""
        self.check(x, t, tokens, features)
        x = F.pixel_unshuffle(x, self.config.patch)
        if self.map_encoder is not None:
            features = x.new_zeros(len(x), self.config.map_features, *x.shape[2:]) if features is None else features
            x = torch.cat([x, features], dim=1)
        time = self.time(time_embedding(t, self.config.channels[0]).to(x.dtype))  # (B, time)
        h = self.first(x)
        crossings = []
        for level, stage in enumerate(self.down):
            h = stage(h if level == 0 else self.shrink[level - 1](h), time, tokens, mask)
            crossings.append(h)
        h = self.middle(h, time)
        for level in reversed(range(len(self.up))):
            h = self.up[level](self.beside(h, crossings[level]), time, tokens, mask)
            h = self.grow[level - 1](h) if level else h
        return F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.config.patch)

    @staticmethod
    def beside(h: Tensor, crossing: Tensor) -> Tensor:
        return torch.cat([h, crossing], dim=1)

    def check(self, x: Tensor, t: Tensor, tokens: Tensor | None = None, features: Tensor | None = None) -> None:
        """Raises ValueError naming the argument that does not fit. (In an export len(x) would be a constant, x.shape is not.)"""
        config, items = self.config, x.shape[0]
        multiple = config.patch * 2 ** (len(config.channels) - 1)
        if x.ndim != 4 or x.shape[1] != config.in_channels or x.shape[2] % multiple or x.shape[3] % multiple:
            raise ValueError(
                f"x: expected (B, {config.in_channels}, H, W) with H and W multiples of {multiple}, got {tuple(x.shape)}"
            )
        if t.shape != x.shape[:1]:
            raise ValueError(f"t: expected one time per item, shape ({len(x)},), got {tuple(t.shape)}")
        if tokens is None and config.context or tokens is not None and not config.context:
            wants = f"tokens (B, L, {config.context})" if config.context else "no tokens"
            got = "none: tell it what to draw, as in model.given(text=...)" if tokens is None else tuple(tokens.shape)
            raise ValueError(f"tokens: this network takes {wants}, got {got}")
        if tokens is not None and (tokens.ndim != 3 or (items, config.context) != (tokens.shape[0], tokens.shape[2])):
            raise ValueError(f"tokens: expected ({items}, L, {config.context}), got {tuple(tokens.shape)}")
        if features is not None:
            wanted = (items, config.map_features, *x.shape[2:]) if config.maps else "none: this network takes no maps"
            if features.shape != wanted:
                raise ValueError(f"features: expected {wanted}, got {tuple(features.shape)}")


def make_map_encoder(config: UNetConfig, width: int = 64) -> nn.Sequential:
    """(B, maps, map_factor H, map_factor W) -> (B, map_features, H, W), by space-to-depth like the autoencoder's."""
    patch = config.map_factor // 2
    return nn.Sequential(
        nn.PixelUnshuffle(patch),
        nn.Conv2d(config.maps * patch**2, width, 1),
        ResBlock(width, width),
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * width, width, 1),
        ResBlock(width, width),
        nn.Conv2d(width, config.map_features, 3, padding=1),
    )


class Stage(nn.Module):
    """One level on the way down or up: a residual block, then attention to the picture itself, then to the tokens."""

    def __init__(self, c_in: int, c_out: int, attention: bool, time: int, context: int = 0):
        super().__init__()
        self.block = ResBlock(c_in, c_out, time)
        self.attention = SelfAttention(c_out) if attention else nn.Identity()
        self.cross = CrossAttention(c_out, context) if attention and context else None

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        x = self.attention(self.block(x, time))
        return x if self.cross is None else self.cross(x, tokens, mask)


class Grow(nn.Sequential):
    """Twice the resolution by depth-to-space: four times cheaper than upsampling before a convolution."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(nn.Conv2d(c_in, 4 * c_out, 1), nn.PixelShuffle(2))  # (B, c_out, 2 H, 2 W)
