"""How a translation is marked: is it the new species or class, is it still the same individual, would it pass in a crowd?

Factors are read from the result by the probe and compared with the source's own: exact ones for Critters, pixels for shoes.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from minidiff.data.critters import Factors
from minidiff.evaluation.intervals import Estimate, correlation, mean, share
from minidiff.evaluation.metrics import frechet_distance, in_batches, kernel_distance, psnr, ssim
from minidiff.evaluation.probes import read_all
from minidiff.nets.probe import Probe


class Mark(NamedTuple):
    """A measured value with its unit."""

    estimate: Estimate
    unit: str


Marks = dict[str, Mark]
CROWD = {"frechet": "Frechet", "kernel": "kernel"}
PAIR = {"psnr_source": "PSNR to source", "ssim_source": "SSIM to source"}
TRUTH = {"psnr_truth": "PSNR to truth"}
FACTORS = {
    "background": ("background",),
    "coat": ("coat",),
    "eye": ("eye",),
    "position": ("x", "y"),
    "size": ("size",),
    "tilt": ("tilt",),
    "gaze": ("gaze_x", "gaze_y"),
    "smile": ("smile",),
}
AGREEMENT = {"accessories": "accessories agree", "kept": "kept", "invented": "invented", "pattern": "pattern agrees"}


class Marker(Protocol):
    """A set of source pictures that knows how to mark their translations."""

    images: Tensor
    seed: int
    success: str  # the mark that must be high enough: how many became what they should
    criterion: str  # the mark that then decides between settings

    def verdict(self, outputs: Tensor) -> Marks:
        """The two marks that choose a setting, of translated pictures in the order of `images`."""

    def mark(self, outputs: Tensor) -> Marks:
        """All marks."""


@dataclass(frozen=True)
class CritterMarker:
    """Critters: the truth is known, the source's factors drawn as the target species."""

    images: Tensor  # (B, 3, H, W), the sources
    factors: Factors
    truth: Tensor  # (B, 3, H, W), the same factors as the target species
    crowd: Tensor  # (N, D) features of other, true pictures of the target species
    probe: Probe
    target: int
    seed: int
    success = "success"
    criterion = "psnr_truth"

    def verdict(self, outputs: Tensor) -> Marks:
        species = read_all(self.probe, outputs)["species"]
        return {
            "success": Mark(share(species == self.target), "share"),
            "psnr_truth": Mark(mean(psnr(outputs, self.truth)), "dB"),
        }

    def mark(self, outputs: Tensor) -> Marks:
        read = read_all(self.probe, outputs)
        return (
            {"success": Mark(share(read["species"] == self.target), "share")}
            | crowd_marks(read["features"], self.crowd)
            | source_marks(outputs, self.images)
            | {"psnr_truth": Mark(mean(psnr(outputs, self.truth)), "dB")}
            | {name: Mark(self._correlation(read, parts), "r") for name, parts in FACTORS.items()}
            | self._agreement(read)
        )

    def _correlation(self, read: dict[str, Tensor], parts: tuple[str, ...]) -> Estimate:
        """The mean correlation of some factors: of x and y, of a colour's channels."""
        answer = torch.cat([read[part].reshape(len(self.images), -1) for part in parts], dim=1)
        truth = torch.cat([getattr(self.factors, part).reshape(len(self.images), -1) for part in parts], dim=1)
        return correlation(answer, truth)

    def _agreement(self, read: dict[str, Tensor]) -> Marks:
        """Agreement alone flatters whoever takes every hat off, so wearers and others are also counted apart."""
        worn = torch.stack([self.factors.glasses, self.factors.hat])
        seen = torch.stack([read["glasses"], read["hat"]]).bool()
        return {
            "accessories": Mark(share((worn == seen).all(0)), "share"),
            "kept": Mark(share(seen[worn]), "share"),
            "invented": Mark(share(seen[~worn]), "share"),
            "pattern": Mark(share(read["pattern"] == self.factors.pattern), "share"),
        }


@dataclass(frozen=True)
class ShoeMarker:
    """Real pictures: no truth, so likeness to the source stands in for it."""

    images: Tensor  # (B, 1, H, W)
    crowd: Tensor  # (N, D) features of real pictures of the target class
    probe: Probe
    target: int
    seed: int
    success = "success"
    criterion = "psnr_source"

    def verdict(self, outputs: Tensor) -> Marks:
        label = read_all(self.probe, outputs)["label"]
        return {
            "success": Mark(share(label == self.target), "share"),
            "psnr_source": Mark(mean(psnr(outputs, self.images)), "dB"),
        }

    def mark(self, outputs: Tensor) -> Marks:
        read = read_all(self.probe, outputs)
        return (
            {"success": Mark(share(read["label"] == self.target), "share")}
            | crowd_marks(read["features"], self.crowd)
            | source_marks(outputs, self.images)
            | {"brightness": Mark(correlation(brightness(outputs), brightness(self.images)), "r")}
        )


def crowd_marks(features: Tensor, crowd: Tensor) -> Marks:
    """Frechet and kernel distance to a crowd, in units of the crowd's own spread: a probe's features have no unit."""
    n, unit = len(features), crowd.std(0).square().mean().sqrt()
    features, crowd = features / unit, crowd / unit
    return {
        "frechet": Mark(Estimate(frechet_distance(features, crowd), None, n), "distance"),
        "kernel": Mark(Estimate(kernel_distance(features, crowd), None, n), "distance"),
    }


def source_marks(outputs: Tensor, sources: Tensor) -> Marks:
    return {
        "psnr_source": Mark(mean(psnr(outputs, sources)), "dB"),
        "ssim_source": Mark(mean(in_batches(ssim, outputs, sources)), "ssim"),
    }


def brightness(images: Tensor) -> Tensor:
    """Mean brightness of the shoe itself, (B,): of the pixels that are not black background."""
    light = (images.flatten(1).double() + 1) / 2
    shoe = (light > 0.1).double()
    return (light * shoe).sum(1) / shoe.sum(1).clamp(min=1)
