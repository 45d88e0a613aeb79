"""Critters: an endless, exactly known world of drawn animal faces, as a set of pictures like any other.

Picture i of stream `seed` is the same whatever the batch, the length or the order in which pictures are asked for.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from minidiff.data.factors import COMMON_RATES, RARE_RATES, Factors, sample_factors
from minidiff.data.pictures import as_indices
from minidiff.data.renderer import render, semantic_map
from minidiff.data.species import NAMES, species_index
from minidiff.seeds import uniform

__all__ = ["COMMON_RATES", "RARE_RATES", "NAMES", "Critters", "Factors", "render", "semantic_map"]


class Critters:
    """Drawn faces of one species ("cat", "dog", "wild") or of "all", as `Pictures`.

    `seed` picks the stream, 0 <= seed < 2^31; `rates` says how often glasses, hats and babies occur; `individuals` limits the
    population to that many animals, those with the numbers 0, 1, ..., or to the numbers of a range (default: a stranger in
    every picture). Raises ValueError for an unknown species or group.
    """

    def __init__(
        self,
        species: str = "all",
        length: int = 50_000,
        seed: int = 0,
        size: int = 64,
        rates: Mapping[str, float] = RARE_RATES,
        individuals: int | range | None = None,
    ):
        if species != "all":
            species_index(species)
        if not 0 < length <= 2**32:
            raise ValueError(f"length: expected 1 to 2^32 pictures, got {length}")
        if not 0 <= seed < 2**31:
            raise ValueError(f"seed: expected 0 <= seed < 2^31, got {seed}")
        population = individuals if individuals is None or isinstance(individuals, range) else range(individuals)
        if population is not None and not population:
            raise ValueError(f"individuals: expected at least 1 or None, got {individuals}")
        self.species, self.length, self.seed, self.size = species, length, seed, size
        self.rates, self.individuals = dict(rates), population
        self.factors(0)  # refuses bad rates now rather than at the first picture

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, indices: int | slice | Sequence[int] | Tensor) -> Tensor:
        """Pictures (B, 3, size, size) in [-1, 1]; a single int gives (3, size, size)."""
        images = render(self.factors(indices), self.size)
        return images[0] if isinstance(indices, int) else images

    def factors(self, indices: int | slice | Sequence[int] | Tensor) -> Factors:
        """The exact factors of the pictures at `indices`, one row each."""
        index = as_indices(indices, self.length)
        seeds = self.seed * 2**32 + index
        return sample_factors(seeds, self.species, self.rates, self._individuals(seeds))

    def _individuals(self, seeds: Tensor) -> Tensor | None:
        if self.individuals is None:
            return None
        count = len(self.individuals)
        index = (uniform(seeds, stream="who") * count).long().clamp(max=count - 1)
        return self.individuals.start + self.individuals.step * index
