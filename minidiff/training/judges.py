"""Training the judges: a probe that reads factors, a segmenter that reads maps, a network that knows individuals."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.data.pictures import Pictures
from minidiff.data.renderer import PARTS, semantic_map
from minidiff.evaluation.identities import identity_report
from minidiff.evaluation.probes import probe_report, targets_of
from minidiff.nets.identity import Acquaintances, IdentityNet, angular_margin
from minidiff.nets.probe import Probe, augment
from minidiff.nets.segmenter import Segmenter, mean_iou
from minidiff.training.bank import Bank, Watch, layout_bank, picture_bank, to_images, unwatched
from minidiff.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ProbeRecipe(Recipe):
    """Reading factors from pictures, blurred and noisy ones too (see `minidiff.nets.probe.augment`)."""

    kind = "probe"

    def network(self) -> Probe:
        return Probe(self.config)

    def rows(self, pictures: Pictures, indices: range, watch: Watch = unwatched) -> Bank:
        return {"images": picture_bank(pictures, indices, watch)} | targets_of(pictures, torch.tensor(indices))

    def prepare(self, network: Probe, bank: Bank) -> None:
        network.fit_scale(bank)

    def loss(self, network: Probe, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        return network.loss(augment(to_images(rows["images"]), seeds), rows)

    def figures(self, network: Probe) -> dict[str, float]:
        return probe_report(network, self.held_out())


@dataclass(frozen=True, kw_only=True)
class SegmenterRecipe(Recipe):
    """Reading semantic maps from Critters, blurred and noisy ones too, as the probe learns to."""

    kind = "segmenter"

    def network(self) -> Segmenter:
        return Segmenter(self.config)

    def rows(self, pictures: Pictures, indices: range, watch: Watch = unwatched) -> Bank:
        layout = layout_bank(pictures.factors(indices), pictures.size, watch)
        return {"images": picture_bank(pictures, indices, watch), "layout": layout}

    def loss(self, network: Segmenter, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        return network.loss(augment(to_images(rows["images"]), seeds), rows["layout"])

    def figures(self, network: Segmenter) -> dict[str, float]:
        pictures = self.held_out()
        truth = semantic_map(pictures.factors(slice(len(pictures))), pictures.size)
        mean, each = mean_iou(network.read(pictures[:]), truth, len(PARTS))
        return {"held_out_iou": mean} | {f"held_out_iou_{name}": value for name, value in zip(PARTS, each)}


@dataclass(frozen=True, kw_only=True)
class IdentityRecipe(Recipe):
    """Telling individuals apart, in pictures as blurred and noisy as a probe's, by `minidiff.nets.identity.angular_margin`.

    The margin grows to `margin` radians over the first `ease` of the training: at first there is nobody to keep apart.
    """

    margin: float = 0.3
    scale: float = 30.0
    ease: float = 0.2
    kind = "identity"

    def network(self) -> Acquaintances:
        return Acquaintances(IdentityNet(self.config), len(known(self.pictures())))

    def kept(self, network: Acquaintances) -> IdentityNet:
        return network.network

    def rows(self, pictures: Pictures, indices: range, watch: Watch = unwatched) -> Bank:
        numbers = known(pictures)
        who = (pictures.factors(indices).individual - numbers.start) // numbers.step  # 0, 1, ...
        return {"images": picture_bank(pictures, indices, watch), "individual": who}

    def loss(self, network: Acquaintances, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        cosines = network(augment(to_images(rows["images"]), seeds))
        margin = self.margin * min(1.0, part / self.ease) if self.ease else self.margin
        return angular_margin(cosines, rows["individual"], margin, self.scale)

    def figures(self, network: IdentityNet) -> dict[str, float]:
        return {f"held_out_{name}": value for name, value in identity_report(network, self.held_out()).items()}


def known(pictures: Pictures) -> range:
    """The numbers of the individuals in a set of pictures. Raises ValueError where every picture shows a stranger."""
    numbers = getattr(pictures, "individuals", None)
    if numbers is None:
        raise ValueError(
            "pictures: expected those of known individuals, as of Critters(..., individuals=1000), got strangers"
        )
    return numbers
