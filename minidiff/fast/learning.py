"""Training on a CPU with the layers of the fast path: the same network, the same gradients up to rounding, sooner.

While inside `quick_layers`, what looks at small pictures keeps them pixel by pixel in memory, (H, W, N, C), behind tensors that
are (N, C, H, W) as everywhere: between two such layers nothing is turned over, a 1 x 1 convolution is one product, and norms
and activations are one pass (`gradients`). A layer that gets anything else does what it always did.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.fast.gradients import Attention, Convolution, Norm, columns, winograd
from minidiff.fast.layers import shuffle, unshuffle
from minidiff.fast.winograd import TILE
from minidiff.nets.blocks import ResBlock, SelfAttention
from minidiff.nets.unet import UNet

LARGEST = 16  # pixels a side: beyond, the maps cost more than the products save
FEWEST = 64  # channels, likewise
TILES = 24  # of all items together: below, the weights' own maps cost more than the products save


@contextmanager
def quick_layers(network: nn.Module) -> Iterator[None]:
    """Inside, the network's layers take this way for small pictures in float32 on a CPU; all else is as it was.

    The results differ by rounding, some 1e-5 of the largest.
    """
    changed = [layer for layer in network.modules() if fits(layer)]
    for layer in changed:
        layer.forward = partial(QUICK[type(layer)], layer)
    for net in (net for net in network.modules() if type(net) is UNet):
        net.beside = beside
        changed.append(net)
    try:
        yield
    finally:
        for layer in changed:
            del layer.__dict__["beside" if type(layer) is UNet else "forward"]  # the class's own again


def fits(layer: nn.Module) -> bool:
    if type(layer) is not nn.Conv2d:
        return type(layer) in QUICK
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and layer.dilation == (1, 1)
    settings = layer.kernel_size, layer.stride, layer.padding
    return plain and settings in (
        ((1, 1), (1, 1), (0, 0)),
        ((3, 3), (1, 1), (1, 1)),
        ((3, 3), (2, 2), (1, 1)),
    )


def is_small(x: Tensor) -> bool:
    ours = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return ours and x.ndim == 4 and max(x.shape[2:]) <= LARGEST


def pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (H, W, N, C), in this order in memory, too."""
    return x.permute(2, 3, 0, 1).contiguous()


def pictures(x: Tensor) -> Tensor:
    """(H, W, N, C) -> (N, C, H, W), the same memory."""
    return x.permute(2, 3, 0, 1)


def small(function: Callable) -> Callable:
    """A layer's function of pixels for small pictures, its class's own forward for others."""

    def forward(layer: nn.Module, x: Tensor, *others: Tensor | None) -> Tensor:
        if not is_small(x) or getattr(layer, "watch", None):
            return type(layer).forward(layer, x, *others)
        return pictures(function(layer, pixels(x), *others))

    return forward


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    if layer.kernel_size == (1, 1):
        return F.linear(x, layer.weight.flatten(1), layer.bias)
    (height, width, items, c_in), stride = x.shape, layer.stride[0]
    tiles = -(-height // TILE) * -(-width // TILE) * items
    few = stride > 1 or min(c_in, layer.out_channels) < FEWEST or tiles < TILES
    return Convolution.apply(x, layer.weight, layer.bias, columns if few else winograd, stride)


def normalise(norm: nn.GroupNorm, x: Tensor, silu: bool = False) -> Tensor:
    return Norm.apply(x, norm.weight, norm.bias, norm.num_groups, norm.eps, silu)


def res_block(block: ResBlock, x: Tensor, time: Tensor | None = None) -> Tensor:
    h = convolve(block.conv1, normalise(block.norm1, x, silu=True))
    weight, bias = block.norm2.weight, block.norm2.bias
    if block.time is not None:
        scale, shift = block.time(time).chunk(2, dim=1)  # (N, C)
        weight, bias = weight * (1 + scale), bias * (1 + scale) + shift
    h = convolve(block.conv2, Norm.apply(h, weight, bias, block.norm2.num_groups, block.norm2.eps, True))
    return h + (x if isinstance(block.skip, nn.Identity) else convolve(block.skip, x))


def attend(layer: SelfAttention, x: Tensor) -> Tensor:
    """Queries, keys and values of a head side by side: the heads of all items are batches of one product."""
    H, W, N, C = x.shape
    weight, bias = (
        part.view(3, layer.heads, C // layer.heads, -1).transpose(0, 1).reshape(3 * C, -1)
        for part in (layer.qkv.weight, layer.qkv.bias)
    )
    qkv = F.linear(normalise(layer.norm, x), weight, bias.view(-1)).view(H * W, N * layer.heads, 3, -1)
    y = Attention.apply(qkv).reshape(H, W, N, C)
    return x + convolve(layer.out, y)


def beside(h: Tensor, crossing: Tensor) -> Tensor:
    """Channels of both, in the order in memory that both have."""
    if not is_small(h):
        return UNet.beside(h, crossing)
    return pictures(torch.cat([pixels(h), pixels(crossing)], dim=3))


QUICK = {
    nn.Conv2d: small(convolve),
    nn.GroupNorm: small(normalise),
    nn.PixelShuffle: small(lambda layer, x: shuffle(x, layer.upscale_factor)),
    nn.PixelUnshuffle: small(lambda layer, x: unshuffle(x, layer.downscale_factor)),
    ResBlock: small(res_block),
    SelfAttention: small(attend),
}
