"""Pictures to one vector and back: maps are halved and doubled by depth-to-space, the smallest is a vector laid out.

For the families whose code has no places: VAE, the semantic half of a diffusion autoencoder.
"""

from itertools import pairwise

from torch import nn

from minidiff.nets.blocks import ResBlock, norm
from minidiff.nets.unet import Grow


def to_vector(channels: int, size: int, patch: int, widths: tuple[int, ...], outputs: int) -> nn.Sequential:
    """(B, channels, size, size) -> (B, outputs); widths from fine to coarse, the first at 1/patch of the resolution.

    The last map is flattened, not averaged: where things are matters.
    """
    side, last = smallest(size, patch, widths), widths[-1]
    layers = [nn.PixelUnshuffle(patch), nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)]
    for fine, coarse in pairwise(widths):
        layers += [ResBlock(fine, fine), nn.PixelUnshuffle(2), nn.Conv2d(4 * fine, coarse, 1)]
    layers += [ResBlock(last, last), norm(last), nn.SiLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(last * side**2, outputs))


def to_picture(inputs: int, channels: int, size: int, patch: int, widths: tuple[int, ...]) -> nn.Sequential:
    """(B, inputs) -> (B, channels, size, size); widths from coarse to fine, the last at 1/patch of the resolution."""
    side = smallest(size, patch, widths)
    layers = [nn.Linear(inputs, widths[0] * side**2), nn.Unflatten(1, (widths[0], side, side))]
    for coarse, fine in pairwise(widths):
        layers += [ResBlock(coarse, coarse), Grow(coarse, fine)]
    layers += [ResBlock(widths[-1], widths[-1]), nn.Conv2d(widths[-1], channels * patch**2, 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(patch))


def smallest(size: int, patch: int, widths: tuple[int, ...]) -> int:
    """The side of the smallest map. Raises ValueError for a size that cannot be halved so often."""
    factor = patch * 2 ** (len(widths) - 1)
    if size % factor or not size:
        raise ValueError(f"size: expected a multiple of {factor} (patch {patch}, {len(widths)} widths), got {size}")
    return size // factor
