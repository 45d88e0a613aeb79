"""Weights in 8 bits: integers from -127 to 127, and one scale for each row of a matrix or output channel of a convolution.

A weight moves by half a scale at most, 1 in 254 of the largest of its row (Krishnamoorthi, "Quantizing deep convolutional
networks for efficient inference", 2018, section 3.1, symmetric and per channel).
"""

import torch
from torch import Tensor

SCALE = ".scale"  # after the name of a tensor of integers


def pack(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels (rows, ...) become int8 with float32 scales (rows,) beside them; vectors stay as they are."""
    packed = {}
    for name, weight in weights.items():
        if weight.ndim < 2 or not weight.is_floating_point():
            packed[name] = weight
            continue
        rows = weight.float().flatten(1)
        scale = rows.abs().amax(1) / 127
        steps = rows / torch.where(scale > 0, scale, 1)[:, None]
        packed |= {name: steps.round().to(torch.int8).view_as(weight), name + SCALE: scale}
    return packed


def unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float32, whether packed or not."""
    weights = {name: value.float() for name, value in tensors.items() if not is_scale(name, tensors)}
    for name, weight in weights.items():
        if name + SCALE in tensors and tensors[name].dtype == torch.int8:
            weights[name] = weight * tensors[name + SCALE].view(-1, *[1] * (weight.ndim - 1))
    return weights


def is_scale(name: str, tensors: dict[str, Tensor]) -> bool:
    """A parameter may be called `scale` itself: only one beside integers is a scale of theirs."""
    whose = tensors.get(name.removesuffix(SCALE))
    return name.endswith(SCALE) and whose is not None and whose.dtype == torch.int8
