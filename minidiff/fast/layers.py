"""The layers of minidiff's networks for pictures stored pixel by pixel, (H, W, N, C): everything is a matrix product.

With all items and channels of a pixel side by side, a 1 x 1 convolution is one product, a 3 x 3 convolution one product
of columns (or `winograd`'s), and no tensor is turned over between the two. Weights are copied into the order they are
read in, once; nothing here has a gradient.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.fast.winograd import Winograd
from minidiff.nets.blocks import CrossAttention, ResBlock, SelfAttention

FEW = 32  # channels
Layer = Callable[[Tensor], Tensor]
Shifted = tuple[Tensor, Tensor]  # scale (C,) and shift (C,) of a norm


def pixels_first(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (H, W, N, C)."""
    return x.permute(2, 3, 0, 1).contiguous()


def pixels_last(x: Tensor) -> Tensor:
    """(H, W, N, C) -> (N, C, H, W)."""
    return x.permute(2, 3, 0, 1).contiguous()


class Matrix:
    """A 1 x 1 convolution: (H, W, N, C_in) -> (H, W, N, C_out)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.weight = conv.weight.detach().flatten(1).T.contiguous()
        self.bias = conv.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.shape[3]), self.weight).view(*x.shape[:3], -1)

    def onto(self, y: Tensor, x: Tensor, bias: bool = True) -> Tensor:
        """y += self(x), without a tensor in between."""
        y.view(-1, y.shape[3]).addmm_(x.view(-1, x.shape[3]), self.weight)
        return y.add_(self.bias) if bias else y


class Columns:
    """A 3 x 3 convolution, padded by 1, of any stride: what each output sees is gathered into a row, and multiplied."""

    def __init__(self, conv: nn.Conv2d) -> None:
        if conv.kernel_size != (3, 3) or conv.padding != (1, 1) or conv.groups != 1:
            raise ValueError(f"conv: expected 3 x 3, padded by 1, got {conv}")
        self.stride = conv.stride[0]
        self.weight = conv.weight.detach().permute(2, 3, 1, 0).flatten(0, 2).contiguous()  # (9 C_in, C_out)
        self.bias = conv.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        H, W, N, C = x.shape
        rows = torch.cat([x.view(-1, C), x.new_zeros(1, C)])  # the last one is what lies outside
        seen = rows.index_select(0, neighbours(H, W, N, self.stride)).view(-1, 9 * C)
        y = torch.addmm(self.bias, seen, self.weight)
        return y.view(-(-H // self.stride), -(-W // self.stride), N, -1)


@lru_cache(maxsize=64)
def neighbours(H: int, W: int, N: int, stride: int) -> Tensor:
    """For every output, item and tap the row of (H W N, C) that it sees; H W N, one row more, outside the picture."""
    rows = torch.full((H + 2, W + 2, N), H * W * N)
    rows[1:-1, 1:-1] = torch.arange(H * W * N).view(H, W, N)
    return rows.unfold(0, 3, stride).unfold(1, 3, stride).flatten()  # (H', W', N, 3, 3)


class Norm:
    """Group normalisation of (H, W, N, C); another scale and shift (C,) may take the place of its own."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        self.groups, self.eps = norm.num_groups, norm.eps
        self.own = norm.weight.detach(), norm.bias.detach()
        size = norm.num_channels // norm.num_groups
        self.average = norm.weight.new_full((size, 1), 1 / size)

    def __call__(self, x: Tensor, shifted: Shifted | None = None) -> Tensor:
        H, W, N, C = x.shape
        weight, bias = shifted or self.own
        if N == 1:
            return pixels_first(F.group_norm(x.permute(2, 3, 0, 1), self.groups, weight, bias, self.eps))
        parts = x.view(H * W, N, self.groups, C // self.groups)
        mean, var = torch.batch_norm_update_stats(x.view(H * W, N * C), None, None, 0.0)  # of each channel of each item
        mean, var = mean.view(N, self.groups, -1), var.view(N, self.groups, -1)
        center = mean @ self.average  # (N, groups, 1)
        var = (var + (mean - center).square_()) @ self.average  # within channels, and between them
        scale = var.add_(self.eps).rsqrt_() * weight.view(self.groups, -1)
        return torch.addcmul(bias.view(self.groups, -1) - center * scale, parts, scale).view(H, W, N, C)


class Block:
    """`ResBlock`; the noise level comes as the scale and shift of its second norm."""

    def __init__(self, block: ResBlock, convolution: Callable[[nn.Conv2d], Layer]) -> None:
        self.norm1, self.conv1 = Norm(block.norm1), convolution(block.conv1)
        self.norm2, self.conv2 = Norm(block.norm2), convolution(block.conv2)
        self.skip = None if isinstance(block.skip, nn.Identity) else Matrix(block.skip)
        if self.skip:
            self.conv2.bias = self.conv2.bias + self.skip.bias

    def __call__(self, x: Tensor, shifted: Shifted | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        h = self.conv2(F.silu(self.norm2(h, shifted), inplace=True))
        return h.add_(x) if self.skip is None else self.skip.onto(h, x, bias=False)


class Attention:
    """`SelfAttention`; it changes its x. Keys need no bias: what it adds to the scores of a query, it adds to all."""

    def __init__(self, layer: SelfAttention) -> None:
        self.heads, self.norm = layer.heads, Norm(layer.norm)
        self.qkv, self.out = Matrix(layer.qkv), Matrix(layer.out)
        q_bias, _, v_bias = self.qkv.bias.chunk(3)
        self.q_bias, self.out.bias = q_bias, torch.addmv(self.out.bias, self.out.weight.T, v_bias)

    def __call__(self, x: Tensor) -> Tensor:
        H, W, N, C = x.shape
        parts = (self.norm(x).view(-1, C) @ self.qkv.weight).view(H * W, N, 3, self.heads, C // self.heads)
        parts[:, :, 0] += self.q_bias.view(self.heads, -1)
        q, k, v = parts.permute(2, 1, 3, 0, 4)  # each (N, heads, H W, head)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out.onto(x, y.permute(2, 0, 1, 3).reshape(H, W, N, C))


class Cross:
    """`CrossAttention`, to keys and values that were made of the tokens beforehand; it changes its x."""

    def __init__(self, layer: CrossAttention) -> None:
        self.heads, self.norm, self.kv = layer.heads, Norm(layer.norm), layer.kv
        self.q, self.out = Matrix(layer.q), Matrix(layer.out)

    def __call__(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """k, v (N, heads, L, head) from `keys_values`, mask (N, 1, 1, L)."""
        H, W, N, C = x.shape
        q = self.q(self.norm(x)).view(H * W, N, self.heads, C // self.heads).permute(1, 2, 0, 3)
        y = F.scaled_dot_product_attention(q, k, v, mask)
        return self.out.onto(x, y.permute(2, 0, 1, 3).reshape(H, W, N, C))

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (N, L, context) -> keys and values (N, heads, L, head), which no noise level changes."""
        kv = self.kv(tokens).view(*tokens.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return kv[0].contiguous(), kv[1].contiguous()


def shuffle(x: Tensor, factor: int) -> Tensor:
    """Depth to space: (H, W, N, factor^2 C) -> (factor H, factor W, N, C)."""
    H, W, N, C = x.shape
    parts = x.view(H, W, N, -1, factor, factor).permute(0, 4, 1, 5, 2, 3)
    return parts.reshape(factor * H, factor * W, N, C // factor**2)


def unshuffle(x: Tensor, factor: int) -> Tensor:
    """Space to depth: (factor H, factor W, N, C) -> (H, W, N, factor^2 C)."""
    H, W, N, C = x.shape
    parts = x.view(H // factor, factor, W // factor, factor, N, C).permute(0, 2, 4, 5, 1, 3)
    return parts.reshape(H // factor, W // factor, N, C * factor**2)


def make_convolution(form: str) -> Callable[[nn.Conv2d], Layer]:
    """How a network of the form "columns" or "winograd" does its 3 x 3 convolutions; few channels are soon gathered."""
    return lambda conv: Winograd(conv) if form == "winograd" and conv.in_channels >= FEW else Columns(conv)
