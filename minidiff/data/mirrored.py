"""Twice as many pictures where left is as good as right: each, and after all of them each once more in the mirror."""

from torch import Tensor

from minidiff.data.pictures import Indices, Pictures, as_indices


class Mirrored:
    """N pictures as 2 N: picture N + i is picture i with left and right exchanged."""

    def __init__(self, pictures: Pictures):
        self.pictures = pictures

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.pictures.shape

    def __len__(self) -> int:
        return 2 * len(self.pictures)

    def __getitem__(self, indices: Indices) -> Tensor:
        """Pictures (B, C, H, W) in [-1, 1]; a single int gives (C, H, W)."""
        index = as_indices(indices, len(self))
        images, mirrored = self.pictures[index % len(self.pictures)], index >= len(self.pictures)
        images[mirrored] = images[mirrored].flip(3)
        return images[0] if isinstance(indices, int) else images
