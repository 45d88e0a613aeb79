"""How many known individuals a generator can be led to, by the identity energy: do its pictures pass for true ones?

Wu & De la Torre (ICCV 2023), section 4.3, with a recogniser trained by ArcFace's loss (Deng et al., CVPR 2019). The pictures
that lead a chain are not those that judge its end. A picture reaches an individual when its mean cosine to other pictures of
it is at least the median of true pictures of it; it is recognised above 99 % of true pictures of strangers. Because one
network both leads and judges, the probe also says whether species, pattern and colours are the individual's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.data.critters import Factors, render
from minidiff.energies import Energy, custom, seen
from minidiff.evaluation.intervals import correlation, mean, share
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.studies.marks import Mark, Marks
from minidiff.evaluation.studies.rare_world import RareWorld
from minidiff.nets.probe import Probe

Recogniser = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> vectors (B, D) that point one way for one individual
STRANGERS = 0.99  # of true pictures of others that a recognised one must surpass


@torch.no_grad()
def mean_vectors(network: Recogniser, images: Tensor, each: int, batch: int = 250) -> Tensor:
    """The mean direction of every individual's `each` pictures, (B * each, C, H, W) -> (B, D); its length is at most 1.

    The product with a unit vector is the mean cosine to those pictures.
    """
    vectors = torch.cat([F.normalize(network(part), dim=1) for part in images.split(batch)])
    return vectors.unflatten(0, (-1, each)).mean(1)


def towards(network: Recogniser, wanted: Tensor) -> Energy:
    """1 - mean_r cos(R(x), R(reference_r)), chain by chain, of `mean_vectors` (B, D): `energies.identity`, one for each."""

    def identity(images: Tensor, code: Tensor) -> Tensor:
        return 1 - (F.normalize(network(seen(images).to(wanted.dtype)), dim=1) * wanted).sum(1)

    return custom(identity)


@dataclass(frozen=True)
class Gallery:
    """Some individuals: what leads to them, what judges, and how near true pictures of them and of others come."""

    network: Recogniser
    probe: Probe
    factors: Factors  # of one picture of each
    leading: Tensor  # (B, D)
    judging: Tensor  # (B, D)
    pictures: Tensor  # (B, C, H, W), a true one of each, in neither
    median: float
    threshold: float

    def cosines(self, images: Tensor) -> Tensor:
        """How near the i-th picture is to the judging pictures of individual i, (B,)."""
        return (mean_vectors(self.network, images, 1) * self.judging).sum(1)

    def marks(self, images: Tensor) -> Marks:
        """Of one picture (B, C, H, W) for each: reached, recognised, mean cosine; and by the probe species to eyes."""
        near, read = self.cosines(images), read_all(self.probe, images)
        return {
            "reached": Mark(share(near >= self.median), "share"),
            "recognised": Mark(share(near > self.threshold), "share"),
            "cosine": Mark(mean(near), "cosine"),
            "species": Mark(share(read["species"] == self.factors.species), "share"),
            "pattern": Mark(share(read["pattern"] == self.factors.pattern), "share"),
            "coat": Mark(correlation(read["coat"], self.factors.coat), "r"),
            "eye": Mark(correlation(read["eye"], self.factors.eye), "r"),
        }


def gallery(network: Recogniser, probe: Probe, world: RareWorld, who: Tensor, references: int) -> Gallery:
    """`references` pictures of each individual to lead, as many others to judge, and one more to compare with."""
    sets = [world.individuals(who, each, stream) for stream, each in enumerate((references, references, 1))]
    images = [render(factors, world.size) for factors in sets]
    leading, judging, true = (
        mean_vectors(network, part, each) for part, each in zip(images, (references, references, 1), strict=True)
    )
    cosines = true @ judging.T  # of every true picture to every individual
    others = cosines[~torch.eye(len(who), dtype=torch.bool)]
    median, threshold = cosines.diagonal().median().item(), others.quantile(STRANGERS).item()
    return Gallery(network, probe, sets[2], leading, judging, images[2], median, threshold)
