"""What all recipes share whose networks live in the latents of a frozen autoencoder of the zoo."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff import zoo
from minidiff.data.pictures import Pictures, PictureStream
from minidiff.processes import device
from minidiff.seeds import normal
from minidiff.training.bank import Bank, Watch, latent_bank, to_images, unwatched
from minidiff.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LatentRecipe(Recipe):
    """Data in the latents of `autoencoder`, or in pixels where it is None."""

    autoencoder: str | None

    def sources(self) -> dict[str, str]:
        return {"autoencoder_sha256": zoo.describe(self.autoencoder)["sha256"]} if self.autoencoder else {}

    def rows(self, pictures: Pictures | PictureStream, indices: range, watch: Watch = unwatched) -> Bank:
        """Of each picture its posterior in the latents, or, in pixels, itself."""
        rows = super().rows(pictures, indices, watch)
        return latent_bank(zoo.load(self.autoencoder, device()), rows["images"], watch) if self.autoencoder else rows

    def clean(self, rows: Bank, seeds: Tensor) -> Tensor:
        """x0 (B, c, h, w): a sample of each posterior, or the pictures themselves."""
        if not self.autoencoder:
            return to_images(rows["images"])
        return rows["mean"] + rows["std"] * normal(seeds, rows["mean"].shape[1:], "posterior")


def random_levels(seeds: Tensor, T: int, mean: float, std: float, stream: str = "t") -> Tensor:
    """Noise levels t (B,), whole numbers in [0, T): t / T = sigmoid(n), n ~ N(mean, std^2)."""
    t = torch.sigmoid(mean + std * normal(seeds, (), stream))
    return (t * T).long().clamp(max=T - 1)


def in_parts(rows: Bank, size: int = 250) -> Iterator[tuple[Bank, Tensor]]:
    """Some rows of a bank, and their seeds, at a time."""
    count = len(next(iter(rows.values())))
    for part in torch.arange(count).split(size):
        yield {name: values[part] for name, values in rows.items()}, part
