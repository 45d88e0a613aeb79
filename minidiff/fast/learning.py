"""Convolutions that learn with a quarter of the multiplications: `winograd` with gradients, for training on a CPU.

y = back(products(there(x), there(w))): two linear maps, and one matrix product at each of the 36 points. A map and its
adjoint are each other's gradient, so gradients of any order are exact. Pictures keep their order (B, C, H, W): all items and
channels are the rows of one matrix, pixels its columns.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from minidiff.fast.winograd import SIX, TAPS, TILE, evaluation, spread, transforms

SIDES = (TILE, 2 * TILE)  # beyond, the maps cost more than the products save
FEWEST = 64  # channels, likewise


@contextmanager
def quick_convolutions(network: nn.Module) -> Iterator[None]:
    """Inside, the network's 3 x 3 convolutions of many channels on small pictures take this way; all else is as it was.

    The results differ by rounding, some 1e-5 of the largest. Only float32 on a CPU is taken out of torch's hands.
    """
    changed = [layer for layer in network.modules() if fits(layer)]
    for layer in changed:
        layer.forward = partial(convolve, layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward  # the class's own again


def fits(layer: nn.Module) -> bool:
    return (
        type(layer) is nn.Conv2d
        and (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and min(layer.in_channels, layer.out_channels) >= FEWEST
    )


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What the layer makes of x (B, C, H, W)."""
    plain = x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if plain or x.shape[2] != x.shape[3] or x.shape[3] not in SIDES:
        return nn.Conv2d.forward(layer, x)
    return convolution(x, layer.weight, layer.bias)


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (B, C, S, S), S in SIDES, weight (O, C, 3, 3), bias (O,) -> (B, O, S, S), padded by 1."""
    (items, c_in, side, _), c_out = x.shape, len(weight)
    there, back, of_weight = maps(side)
    v = Columns.apply(x.reshape(items * c_in, -1), there).view(SIX**2, -1, c_in)  # (36, tiles B, C)
    u = Columns.apply(weight.reshape(c_out * c_in, -1), of_weight).view(SIX**2, c_out, c_in)
    y = Rows.apply(Products.apply(v, u).view(len(there), -1), back).view(items, c_out, side, side)
    return y if bias is None else y + bias[:, None, None]


class Columns(torch.autograd.Function):
    """(x (n, p), map (q, p)) -> map x^T (q, n)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, map: Tensor) -> Tensor:
        ctx.map = map
        return map @ x.T

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, None]:
        return Rows.apply(slope, ctx.map), None


class Rows(torch.autograd.Function):
    """(y (q, n), map (q, p)) -> y^T map (n, p): the adjoint."""

    @staticmethod
    def forward(ctx: FunctionCtx, y: Tensor, map: Tensor) -> Tensor:
        ctx.map = map
        return y.T @ map

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, None]:
        return Columns.apply(slope, ctx.map), None


class Products(torch.autograd.Function):
    """(v (k, n, c), u (k, o, c)) -> v u^T (k, n, o). torch's own gradient of u would have to be turned over."""

    @staticmethod
    def forward(ctx: FunctionCtx, v: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(v, u)
        return torch.bmm(v, u.transpose(1, 2))

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        v, u = ctx.saved_tensors
        to_v, to_u = ctx.needs_input_grad
        return torch.bmm(slope, u) if to_v else None, torch.bmm(slope.transpose(1, 2), v) if to_u else None


@cache
def maps(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels to points (36 tiles, S^2), points to pixels, as rows, (36 tiles, S^2), and weights to points (36, 9)."""
    there, back = (each.double() for each in transforms(side))  # (6 tiles, S) and (S, 6 tiles)
    tiles = len(there) // SIX
    order = torch.arange(len(there) ** 2).view(SIX, tiles, SIX, tiles).transpose(1, 2).flatten()  # points first
    at_points = evaluation(TAPS) / spread()[:, None]
    both = torch.kron(there, there)[order], torch.kron(back, back).T[order], torch.kron(at_points, at_points)
    return tuple(each.float().contiguous() for each in both)
