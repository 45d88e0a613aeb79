"""Critters of a species between two others: how related two sets of pictures are becomes a dial.

Siblings are drawn alike (amount 0), relatives lie between (0.5), dogs are the far end (1), and strangers stand on their
heads as well: they share the world's colours and nothing of its layout.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from minidiff.data.critters import COMMON_RATES, Critters, render
from minidiff.data.pictures import as_indices
from minidiff.data.species import NAMES, SPECIES, mixed


class Relatives(Critters):
    """Critters of the species `mixed(a, b, amount)`, turned upside down if `turned`; the rest as `Critters`.

    `factors` name the species `a`, and are those of the picture before it is turned.
    """

    def __init__(self, a: str = "cat", b: str = "dog", amount: float = 0.5, turned: bool = False, **others):
        row = mixed(a, b, amount)
        super().__init__(a, **({"rates": COMMON_RATES} | others))
        self.rows = [row if name == a else SPECIES[name] for name in NAMES]
        self.turned = turned

    def __getitem__(self, indices: int | slice | Sequence[int] | Tensor) -> Tensor:
        """Pictures (B, 3, size, size) in [-1, 1]; a single int gives (3, size, size)."""
        images = render(self.factors(as_indices(indices, self.length)), self.size, rows=self.rows)
        images = torch.flip(images, (2,)) if self.turned else images
        return images[0] if isinstance(indices, int) else images
