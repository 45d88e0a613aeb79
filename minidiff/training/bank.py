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
AT_ONCE = 250 * 64 * 64  # pixels that an autoencoder sees together


def unwatched(loop: Iterable[T], title: str) -> Iterable[T]:
    """No progress bar."""
    return loop


def to_bytes(images: Tensor) -> Tensor:
    """Pictures in [-1, 1] -> whole numbers 0..255 (uint8), a quarter of the memory."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_images(values: Tensor) -> Tensor:
    """Undo `to_bytes`, up to rounding: uint8 -> float32 in [-1, 1]."""
    return values.float() / 127.5 - 1


def picture_bank(
    pictures: Pictures | PictureStream, indices: range | None = None, watch: Watch = unwatched, chunk: int = 500
) -> Tensor:
    """The pictures at `indices`, by default all, as uint8 (N, C, H, W)."""
    indices = range(len(pictures)) if indices is None else indices
    bank = torch.empty(len(indices), *pictures.shape, dtype=torch.uint8)
    if isinstance(pictures, PictureStream):
        for row, image in enumerate(watch(pictures.part(indices.start, indices.step), "pictures")):
            bank[row] = to_bytes(image)
        return bank
    for rows in watch(torch.arange(len(indices)).split(chunk), "pictures"):
        bank[rows] = to_bytes(pictures[indices.start + indices.step * rows])
    return bank


def layout_bank(factors, size: int, watch: Watch = unwatched, chunk: int = 250) -> Tensor:
    """Which part each pixel of each picture shows: uint8 (N, size, size)."""
    from minidiff.data.renderer import semantic_map

    starts = watch(range(0, len(factors), chunk), "layouts")
    return torch.cat([semantic_map(factors[start : start + chunk], size).byte() for start in starts])


@torch.no_grad()
def latent_bank(autoencoder, images: Tensor, watch: Watch = unwatched) -> Bank:
    """The posteriors of uint8 pictures (N, C, H, W) in unit-std latents: "mean" and "std", each (N, c, h, w), on the CPU.

    The autoencoder sees as many pictures at once as have a million pixels together, where it is.
    """
    means, stds, chunk = [], [], max(1, min(250, AT_ONCE // images.shape[2:].numel()))
    for part in watch(images.split(chunk), "latents"):
        mean, logvar = autoencoder.posterior(to_images(part.to(autoencoder.scale.device)))
        means.append(((mean - autoencoder.shift[:, None, None]) / autoencoder.scale[:, None, None]).cpu())
        stds.append(((0.5 * logvar).exp() / autoencoder.scale[:, None, None]).cpu())
    return {"mean": torch.cat(means), "std": torch.cat(stds)}


def batch_seeds(seed: int, step: int, batch: int, rank: int = 0, ranks: int = 1) -> Tensor:
    """One seed per item of the batch of step `step`; process `rank` of `ranks` gets a run of them, all as many."""
    own = batch // ranks
    return (seed << 40) + step * batch + torch.arange(rank * own, (rank + 1) * own)


def draw(bank: Bank, seeds: Tensor) -> Bank:
    """The rows that the items of a batch show, drawn with replacement."""
    count = len(next(iter(bank.values())))
    index = (uniform(seeds, stream="item", dtype=torch.float64) * count).long().clamp(max=count - 1)
    return {name: values[index] for name, values in bank.items()}
