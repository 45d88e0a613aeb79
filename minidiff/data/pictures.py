"""The one interface of every set of pictures: a length, a shape, and pictures in [-1, 1] by index.

Training, lessons and evaluation are written against it, so drawn animals, real shoes and your own photographs change
places freely.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Indices = int | slice | Sequence[int] | Tensor


@runtime_checkable
class Pictures(Protocol):
    """`len(pictures)` pictures of one `shape` (C, H, W).

    `pictures[indices]` is (B, C, H, W) float32 in [-1, 1]; a single int gives (C, H, W).
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Indices) -> Tensor: ...


@runtime_checkable
class PictureStream(Protocol):
    """`len(stream)` pictures of one `shape` (C, H, W) that can only be read in order, from the first one on.

    `iter(stream)` and `stream.part(first, step)`, which leaves out all but every step-th, give (C, H, W) float32 in
    [-1, 1], the same each time. A bank is built from it as from `Pictures`; what needs factors or labels is not.
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Tensor]: ...

    def part(self, first: int, step: int) -> Iterator[Tensor]: ...


def as_indices(indices: Indices, length: int) -> Tensor:
    """Whatever one may write between brackets as positions (B,), int64, in [0, length). Negative ones count from the end.

    A bool tensor (length,) picks where it is true; an int gives one position. Raises IndexError beyond either end (as
    Python's own sequences do, so that `for picture in pictures` ends), ValueError for what is not whole numbers.
    """
    if isinstance(indices, slice):
        return torch.arange(*indices.indices(length))
    index = torch.as_tensor(indices)
    if index.numel() == 0:
        return torch.zeros(0, dtype=torch.long)
    if index.dtype == torch.bool and index.shape == (length,):
        return index.nonzero().flatten()
    if index.dtype == torch.bool or index.is_floating_point() or index.is_complex() or index.ndim > 1:
        raise ValueError(
            f"indices: expected an int, a slice or a list of ints, got {index.dtype} of shape {tuple(index.shape)}"
        )
    index = index.long().flatten()
    outside = index[(index < -length) | (index >= length)]
    if len(outside):
        raise IndexError(f"indices: there are {length} pictures, so there is no picture {outside[0].item()}")
    return index % length
