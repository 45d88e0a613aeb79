"""Convolutions and norms of pictures stored pixel by pixel, (H, W, N, C), with exact gradients of any order.

A convolution is linear in the pictures and in the weights, and so are its two gradients; the gradients of these are the same
three functions again, of other tensors: `Convolution` and `Gradients` name each other and need no more. Each comes in two
forms, one product of `columns` or the fewer multiplications of `winograd`, whose maps between pixels and points are linear,
too: the adjoint of each is its transpose.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from minidiff.fast.winograd import AT_ONE, SIX, TAPS, TILE, evaluation, spread, transforms

Ready = tuple[Tensor, Tensor]  # pictures and weights as a form multiplies them
Map = tuple[Tensor, ...]  # a matrix for columns of pixels and one for rows, or one for whole pictures
Slopes = tuple[Tensor | None, Tensor | None, Tensor]  # of pictures, weights and bias
ONE = SIX * AT_ONE + AT_ONE


class Convolution(torch.autograd.Function):
    """(x (H, W, N, C), weight (O, C, 3, 3), bias (O,) or None) -> (H', W', N, O), padded by 1.

    `form` is one of this module's `winograd` and `columns`; the stride is 1 but for the latter.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, form: Any, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.form, ctx.stride, ctx.ready = form, stride, form.prepare(x, weight, stride)
        return form.value(ctx.ready, x.shape, bias, stride)

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        of_x, of_weight, of_bias = Gradients.apply(x, weight, slope, ctx.ready, ctx.form, ctx.stride, wanted[:2])
        return of_x, of_weight, of_bias if wanted[2] else None, None, None


class Gradients(torch.autograd.Function):
    """(x, weight, slope (H', W', N, O)) -> the gradients of x, weight and bias; None for what is not wanted.

    `ready` is what the form has made of x and weight already.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        slope: Tensor,
        ready: Ready,
        form: Any,
        stride: int,
        wanted: tuple[bool, bool],
    ) -> Slopes:
        ctx.save_for_backward(x, weight, slope)
        ctx.form, ctx.stride = form, stride
        return form.slopes(ready, x.shape, slope.contiguous(), stride, wanted)

    @staticmethod
    def backward(ctx: FunctionCtx, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, slope = ctx.saved_tensors
        way = ctx.form, ctx.stride
        like_x, like_weight = (
            torch.zeros_like(old) if new is None else new for new, old in zip(slopes, (x, weight), strict=False)
        )
        ready = ctx.form.prepare(like_x, like_weight, ctx.stride)
        of_x, of_weight, _ = Gradients.apply(like_x, like_weight, slope, ready, *way, (True, True))
        of_slope = Convolution.apply(like_x, weight, None, *way) + Convolution.apply(x, like_weight, slopes[2], *way)
        return of_x, of_weight, of_slope, None, None, None, None


# What each output sees is three rows, of which each holds three pixels side by side: one product for each row.


def columns_prepare(x: Tensor, weight: Tensor, stride: int) -> Ready:
    """(H + 2, W', N, 3 C) as `in_threes`, and (3, 3 C, O): one matrix for each row of taps."""
    return in_threes(x, stride), weight.permute(2, 3, 1, 0).reshape(TAPS, -1, len(weight))


def columns_value(ready: Ready, shape: torch.Size, bias: Tensor | None, stride: int) -> Tensor:
    seen, w = ready
    above, here, below = (seen_by(seen, row, stride) for row in range(TAPS))
    y = above @ w[0] if bias is None else torch.addmm(bias, above, w[0])
    return y.addmm_(here, w[1]).addmm_(below, w[2]).view((shape[0] - 1) // stride + 1, *seen.shape[1:3], -1)


def columns_slopes(ready: Ready, shape: torch.Size, slope: Tensor, stride: int, wanted: tuple[bool, bool]) -> Slopes:
    seen, w = ready
    (height, width, _, c_in), c_out = shape, slope.shape[3]
    g, of_x, of_weight = slope.view(-1, c_out), None, None
    if wanted[1]:
        of_weight = torch.empty_like(w)
        for row in range(TAPS):
            torch.mm(seen_by(seen, row, stride).T, g, out=of_weight[row])
        of_weight = of_weight.view(TAPS, TAPS, c_in, c_out).permute(3, 2, 0, 1)
    if wanted[0]:
        if stride == 1:  # of its first and last row, outside the picture, nobody asks
            of_seen = torch.empty_like(seen)
            torch.mm(g, w[1].T, out=of_seen[1:-1].view(-1, TAPS * c_in))
            for row in (0, 2):
                of_seen[row : row + height].view(-1, TAPS * c_in).addmm_(g, w[row].T)
        else:
            of_seen = torch.zeros_like(seen)
            for row in range(TAPS):
                part = of_seen[row : row + height : stride]
                part += (g @ w[row].T).view_as(part)
        left, here, right = of_seen[1:-1].chunk(TAPS, dim=3)
        of_x = g.new_zeros(shape)
        of_x[:, ::stride] = here
        of_x[:, 1::stride] += right[:, : len(range(1, width, stride))]
        of_x[:, stride - 1 : width - 1 : stride] += left[:, 1:]
    return of_x, of_weight, g.sum(0)


def in_threes(x: Tensor, stride: int) -> Tensor:
    """(H, W, N, C) -> (H + 2, W', N, 3 C): each output's pixel with its left and right neighbours, zeros around."""
    height, width, items, channels = x.shape
    seen = x.new_empty(height + 2, (width - 1) // stride + 1, items, TAPS * channels)
    left, here, right = seen[1:-1].chunk(TAPS, dim=3)
    here.copy_(x[:, ::stride])
    left[:, 1:] = x[:, stride - 1 : width - 1 : stride]
    beside = len(range(1, width, stride))
    right[:, :beside] = x[:, 1::stride]
    for outside in (seen[0], seen[-1], left[:, 0], right[:, beside:]):
        outside.zero_()
    return seen


def seen_by(seen: Tensor, row: int, stride: int) -> Tensor:
    """The rows of `in_threes` that stand above, at or below the outputs, as a matrix (H' W' N, 3 C)."""
    return seen[row : row + len(seen) - 2 : stride].reshape(-1, seen.shape[3])


columns = SimpleNamespace(prepare=columns_prepare, value=columns_value, slopes=columns_slopes)


# One product at each of the 36 points, of which every row of tiles is a batch of its own.


def winograd_prepare(x: Tensor, weight: Tensor, stride: int) -> Ready:
    """(rows of tiles, 36, tiles N, C) and (36, C, O)."""
    (height, width, items, channels), taps = x.shape, weight.permute(2, 3, 1, 0).reshape(TAPS**2, -1)
    v = mapped(maps(height, width)[0], x.contiguous()).view(-1, SIX**2, -(-width // TILE) * items, channels)
    return v, (taps_to_points() @ taps).view(SIX**2, channels, -1)


def winograd_value(ready: Ready, shape: torch.Size, bias: Tensor | None, stride: int) -> Tensor:
    y = products(*ready)
    if bias is not None:
        y[:, ONE] += bias
    return mapped(maps(*shape[:2])[1], y).view(*shape[:3], -1)


def winograd_slopes(ready: Ready, shape: torch.Size, slope: Tensor, stride: int, wanted: tuple[bool, bool]) -> Slopes:
    (v, u), (there, back) = ready, maps(*shape[:2])
    g = mapped(turned(back), slope).view(*v.shape[:3], -1)
    of_x = of_weight = None
    if wanted[1]:
        of_u = torch.bmm(v[0].transpose(1, 2), g[0])
        for tiles in range(1, len(v)):
            of_u.baddbmm_(v[tiles].transpose(1, 2), g[tiles])
        of_weight = taps_to_points().T @ of_u.view(SIX**2, -1)
        of_weight = of_weight.view(TAPS, TAPS, *of_u.shape[1:]).permute(3, 2, 0, 1)
    if wanted[0]:
        of_x = mapped(turned(there), products(g, u.transpose(1, 2))).view(shape)
    return of_x, of_weight, g[:, ONE].sum((0, 1))


def products(v: Tensor, u: Tensor) -> Tensor:
    """(rows of tiles, 36, n, c), (36, c, o) -> (rows of tiles, 36, n, o)."""
    y = v.new_empty(*v.shape[:3], u.shape[2])
    for part, out in zip(v, y, strict=True):
        torch.bmm(part, u, out=out)
    return y


def mapped(map: Map, x: Tensor) -> Tensor:
    """Pixels to points or back, for each item and channel alike: two products, or one."""
    if len(map) == 1:
        return map[0] @ x.view(map[0].shape[1], -1)
    down, right = map
    x = (down @ x.view(down.shape[1], -1)).view(len(down), right.shape[1], -1)
    return torch.bmm(right.expand(len(down), -1, -1), x)


def turned(map: Map) -> Map:
    return tuple(part.T for part in map)


@cache
def maps(height: int, width: int) -> tuple[Map, Map]:
    """Pixels to points, and points to pixels. Points are in the order (row of tiles, point, point, place in the row)."""
    (down, up), (right, left) = transforms(height), transforms(width)
    order = torch.arange(len(down)).view(SIX, -1).T.flatten()  # points within tiles, not tiles within points
    there, back = (down[order], right), (up[:, order], left)
    if height == width == TILE:
        there, back = ((torch.kron(*each),) for each in (there, back))
    return there, back


@cache
def taps_to_points() -> Tensor:
    """(36, 9)."""
    points = evaluation(TAPS) / spread()[:, None]
    return torch.kron(points, points).float()


winograd = SimpleNamespace(prepare=winograd_prepare, value=winograd_value, slopes=winograd_slopes)


class Norm(torch.autograd.Function):
    """silu(group norm of x) for x (H, W, N, C), weight and bias (C,) or (N, C), each item's own; `silu` False: the norm.

    The second order goes by torch's own operations.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        H, W, N, C = x.shape
        mean, var = torch.batch_norm_update_stats(x.view(H * W, N * C), None, None, 0.0)  # of each channel of each item
        mean, var = mean.view(N, groups, -1), var.view(N, groups, -1)
        center = mean.mean(2, keepdim=True)
        var = var.add_((mean - center).square_()).mean(2, keepdim=True)  # within channels, and between them
        rate = var.add_(eps).rsqrt_()
        scale = (rate * weight.view(-1, groups, C // groups)).view(N, C)
        shift = (bias.view(-1, groups, C // groups) - center * scale.view(N, groups, -1)).view(N, C)
        y = torch.addcmul(shift, x, scale)
        ctx.save_for_backward(x, weight, bias, scale, shift, center, rate)
        ctx.settings = groups, eps, silu
        return F.silu(y, inplace=True) if silu else y

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, scale, shift, center, rate = ctx.saved_tensors
        groups, _, silu = ctx.settings
        if torch.is_grad_enabled():
            return *again(x, weight, bias, slope, ctx.settings), None, None, None
        H, W, N, C = x.shape
        if silu:
            slope = torch.ops.aten.silu_backward(slope, torch.addcmul(shift, x, scale))
        slope = slope.contiguous()
        of_bias = slope.view(H * W, N * C).sum(0).view(N, groups, -1)
        along = (slope * x).view(H * W, N * C).sum(0).view(N, groups, -1)
        of_weight = (along - center * of_bias) * rate  # the slope along the normalised picture
        own = weight.view(-1, groups, C // groups)
        share = -rate / (H * W * C // groups)  # of each number in its group's mean, and in its variance
        level = share * (own * of_bias).sum(2, keepdim=True)
        tilt = share * rate * (own * of_weight).sum(2, keepdim=True)
        level, tilt = ((part + 0 * own).expand(N, -1, -1).reshape(N, C) for part in (level - center * tilt, tilt))
        of_x = torch.addcmul(level, x, tilt).addcmul_(slope, scale)
        of_weight, of_bias = (part.reshape(N, C) for part in (of_weight, of_bias))
        if weight.ndim == 1:
            of_weight, of_bias = of_weight.sum(0), of_bias.sum(0)
        return of_x, of_weight, of_bias, None, None, None


def again(x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor, settings: tuple) -> tuple[Tensor, ...]:
    """The gradients of `Norm` as functions that have gradients themselves."""
    groups, eps, silu = settings
    with torch.enable_grad():
        y = F.group_norm(x.permute(2, 3, 0, 1), groups, eps=eps).permute(2, 3, 0, 1) * weight + bias
        learning = [part for part in (x, weight, bias) if part.requires_grad]
        found = iter(torch.autograd.grad(F.silu(y) if silu else y, learning, slope, create_graph=True))
        return tuple(next(found) if part.requires_grad else None for part in (x, weight, bias))


class Attention(torch.autograd.Function):
    """softmax(q k^T / sqrt(head)) v of q, k and v side by side, (H W, heads of all items, 3, head) -> (H W, heads, head).

    The second order goes by torch's own operations.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, qkv: Tensor) -> Tensor:
        q, k, v = qkv.transpose(0, 1).unbind(2)  # each (heads, H W, head)
        share = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=q.shape[2] ** -0.5).softmax(2)
        ctx.save_for_backward(qkv, share)
        return torch.bmm(share, v).transpose(0, 1)

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> Tensor:
        qkv, share = ctx.saved_tensors
        if torch.is_grad_enabled():
            return attention_again(qkv, slope)
        (q, k, v), g = qkv.transpose(0, 1).unbind(2), slope.transpose(0, 1)
        of_scores = torch.ops.aten._softmax_backward_data(torch.bmm(g, v.transpose(1, 2)), share, 2, share.dtype)
        of_qkv, alpha = torch.empty_like(qkv), q.shape[2] ** -0.5
        of_q, of_k, of_v = of_qkv.transpose(0, 1).unbind(2)
        of_q.copy_(torch.baddbmm(q.new_empty(1), of_scores, k, beta=0, alpha=alpha))
        of_k.copy_(torch.baddbmm(q.new_empty(1), of_scores.transpose(1, 2), q, beta=0, alpha=alpha))
        of_v.copy_(torch.bmm(share.transpose(1, 2), g))
        return of_qkv


def attention_again(qkv: Tensor, slope: Tensor) -> Tensor:
    """The gradient of `Attention` as a function that has gradients itself."""
    with torch.enable_grad():
        q, k, v = qkv.transpose(0, 1).unbind(2)
        y = torch.bmm((torch.bmm(q, k.transpose(1, 2)) * q.shape[2] ** -0.5).softmax(2), v).transpose(0, 1)
        return torch.autograd.grad(y, qkv, slope, create_graph=True)[0]
