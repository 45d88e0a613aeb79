"""A bank of training pictures in memory: rendered or read once, so that drawing a batch costs almost nothing.

Which items a batch holds, and the noise that is added to them, are functions of (recipe seed, step, place in the batch)
alone: a resumed run, or one shared between several processes, sees the same batches as an uninterrupted one.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from minidiff.data.pictures import Pictures, PictureStream
from minidiff.seeds import uniform

T = TypeVar("T")
Bank = dict[str, Tensor]  # each tensor has one row per picture
Watch = Callable[[Iterable[T], str], Iterable[T]]  # wraps a loop in a progress bar


def unwatched(loop: Iterable[T], title: str) -> Iterable[T]:
    """No progress bar."""
    return loop


def to_bytes(images: Tensor) -> Tensor:
    """Pictures in [-1, 1] -> whole numbers 0..255 (uint8), a quarter of the memory."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_images(values: Tensor) -> Tensor:
    """Undo `to_bytes`, up to rounding: uint8 -> float32 in [-1, 1]."""
    return values.float() / 127.5 - 1


def picture_bank(pictures: Pictures | PictureStream, watch: Watch = unwatched, chunk: int = 500) -> Tensor:
    """All pictures as uint8 (N, C, H, W)."""
    bank = torch.empty(len(pictures), *pictures.shape, dtype=torch.uint8)
    if isinstance(pictures, PictureStream):
        for row, image in enumerate(watch(pictures, "pictures")):
            bank[row] = to_bytes(image)
        return bank
    for indices in watch(torch.arange(len(pictures)).split(chunk), "pictures"):
        bank[indices] = to_bytes(pictures[indices])
    return bank


def layout_bank(factors, size: int, watch: Watch = unwatched, chunk: int = 250) -> Tensor:
    """Which part each pixel of each picture shows: uint8 (N, size, size)."""
    from minidiff.data.renderer import semantic_map

    starts = watch(range(0, len(factors), chunk), "layouts")
    return torch.cat([semantic_map(factors[start : start + chunk], size).byte() for start in starts])


@torch.no_grad()
def latent_bank(autoencoder, images: Tensor, watch: Watch = unwatched, chunk: int = 250) -> Bank:
    """The posteriors of uint8 pictures (N, C, H, W) in unit-std latents: "mean" and "std", each (N, c, h, w)."""
    means, stds = [], []
    for part in watch(images.split(chunk), "latents"):
        mean, logvar = autoencoder.posterior(to_images(part))
        means.append((mean - autoencoder.shift[:, None, None]) / autoencoder.scale[:, None, None])
        stds.append((0.5 * logvar).exp() / autoencoder.scale[:, None, None])
    return {"mean": torch.cat(means), "std": torch.cat(stds)}


def batch_seeds(seed: int, step: int, batch: int, rank: int = 0, ranks: int = 1) -> Tensor:
    """One seed per item of the batch of step `step`; process `rank` of `ranks` gets every `ranks`-th."""
    return (seed << 40) + step * batch + torch.arange(rank, batch, ranks)


def draw(bank: Bank, seeds: Tensor) -> Bank:
    """The rows that the items of a batch show, drawn with replacement."""
    count = len(next(iter(bank.values())))
    index = (uniform(seeds, stream="item", dtype=torch.float64) * count).long().clamp(max=count - 1)
    return {name: values[index] for name, values in bank.items()}
