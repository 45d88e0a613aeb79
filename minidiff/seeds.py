"""Random numbers that depend on a seed and a position only: never on batch size, device or call order.

A counter is hashed instead of a state advanced (SplitMix64: Steele, Lea & Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), so every item of a batch has its own stream and a batch is made in one vectorised go.
"""

import zlib
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio, as a signed 64-bit integer
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64

Seeds = int | Sequence[int] | Tensor


def as_seeds(seeds: Seeds, count: int, device: torch.device | str = "cpu") -> Tensor:
    """One int64 seed per item, (count,). An int s stands for s, s + 1, ..., so item i of a batch has seed s + i.

    Raises ValueError when a sequence or tensor does not hold exactly `count` whole numbers.
    """
    if isinstance(seeds, int):
        return seeds + torch.arange(count, device=device)
    seeds = torch.as_tensor(seeds, device=device)
    if seeds.shape != (count,) or seeds.is_floating_point():
        raise ValueError(
            f"seeds: expected one integer per item, shape ({count},), got {seeds.dtype} of shape {tuple(seeds.shape)}"
        )
    return seeds.long()


def uniform(seeds: Tensor, shape: Sequence[int] = (), stream: str = "", dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers in (0, 1), (B, *shape), from int64 `seeds` (B,); streams of different names are independent."""
    return _uniform64(seeds, prod(shape), [stream]).to(dtype).reshape(-1, *shape)


def normal(seeds: Tensor, shape: Sequence[int] = (), stream: str = "", dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, (B, *shape), from int64 `seeds` (B,), by Box and Muller's transform."""
    return normals(seeds, shape, [stream], dtype)[:, 0]


def normals(seeds: Tensor, shape: Sequence[int], streams: Sequence[str], dtype: torch.dtype = torch.float32) -> Tensor:
    """`normal` of several streams at once, (B, streams, *shape): sooner where each has few numbers."""
    count = prod(shape)
    pairs = (count + 1) // 2
    radius, angle = _uniform64(seeds, 2 * pairs, streams).split(pairs, dim=2)
    radius, angle = (-2 * radius.log()).sqrt(), 2 * torch.pi * angle
    numbers = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=2)
    return numbers[..., :count].to(dtype).reshape(len(seeds), len(streams), *shape)


def _uniform64(seeds: Tensor, count: int, streams: Sequence[str]) -> Tensor:
    seeds = _mix(seeds)
    key = _mix(torch.stack([seeds + zlib.crc32(stream.encode()) for stream in streams], dim=1))  # (B, streams)
    counter = torch.arange(1, count + 1, device=seeds.device) * GOLDEN
    bits = _mix(key[:, :, None] + counter)  # (B, streams, count)
    return (_shift(bits, 11).double() + 0.5) * 2.0**-53


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * MIX_1
    x = (x ^ _shift(x, 27)) * MIX_2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's own copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
