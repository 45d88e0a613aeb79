"""The parts every network here is made of: a residual convolution block, self-attention and cross-attention.

All start as the identity (their last layer is zero), so a deep network begins as a shallow one and learns its depth
(He et al., CVPR 2016, section 3; Ho, Jain & Abbeel, NeurIPS 2020, appendix B for the arrangement).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)
Watch = Callable[[Tensor], Tensor]


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

    watch: Watch | None = None  # sees, and may change, the attention probabilities: see `watching`

    def __init__(self, channels: int, head: int = 32):
        super().__init__()
        self.heads = count_heads(channels, head)
        self.norm, self.qkv = norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(3, 4).unbind(1)  # each (B, heads, H*W, head)
        y = attend(q, k, v, None, self.watch)
        return x + self.out(y.transpose(2, 3).reshape(b, c, h, w))


class CrossAttention(nn.Module):
    """Every place looks at every token: (B, C, H, W), (B, L, context) -> (B, C, H, W).

    Queries come from the picture, keys and values from the tokens (Rombach et al., CVPR 2022, section 3.3). The tokens
    are a set: their order does not matter. `mask` (B, L) bool is True where there is a token to look at.
    """

    watch: Watch | None = None

    def __init__(self, channels: int, context: int, head: int = 32):
        super().__init__()
        self.heads = count_heads(channels, head)
        self.norm, self.q = norm(channels), nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(context, 2 * channels)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        b, c, h, w = x.shape
        q = self.q(self.norm(x)).reshape(b, self.heads, c // self.heads, h * w).transpose(2, 3)
        kv = self.kv(tokens).reshape(b, -1, 2, self.heads, c // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, head)
        y = attend(q, k, v, mask, self.watch)
        return x + self.out(y.transpose(2, 3).reshape(b, c, h, w))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, watch: Watch | None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for (B, heads, *, d); `mask` (B, keys) is True where a key may be seen."""
    if mask is not None:
        mask = mask[:, None, None, :]
    if watch is None:
        return F.scaled_dot_product_attention(q, k, v, mask)
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])  # (B, heads, queries, keys)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return watch(scores.softmax(-1)) @ v


@contextmanager
def watching(network: nn.Module, kind: type[nn.Module], watch: Watch) -> Iterator[None]:
    """While inside, every attention of a kind (SelfAttention, CrossAttention) in the network shows its probabilities
    (B, heads, queries, keys) to `watch` and goes on with what `watch` returns.

    A network of another library brings a method `watching(kind, watch)` that does the same for layers of its own.
    """
    if hasattr(network, "watching"):
        with network.watching(kind, watch):
            yield
        return
    layers = [layer for layer in network.modules() if isinstance(layer, kind)]
    before = [layer.watch for layer in layers]
    for layer in layers:
        layer.watch = watch
    try:
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.watch = old


def count_heads(channels: int, head: int) -> int:
    """How many heads of that width. Raises ValueError when it does not come out even."""
    if channels % head:
        raise ValueError(f"channels: expected a multiple of the head width {head}, got {channels}")
    return channels // head


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
