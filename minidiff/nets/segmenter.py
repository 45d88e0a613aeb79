"""Reading a semantic map back from a picture: the judge of pictures that were drawn to a map.

The package's own U-Net without noise: space-to-depth, one pass, depth-to-space, a score for each part at each pixel.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nets.unet import UNet, UNetConfig


@dataclass(frozen=True)
class SegmenterConfig:
    """channels: of the pictures; parts: how many there are; patch: pixels of one place of the U-Net; widths: its levels."""

    parts: int
    channels: int = 3
    patch: int = 4
    widths: tuple[int, ...] = (64, 128)


class Segmenter(nn.Module):
    """images (B, C, H, W) in [-1, 1] -> scores (B, parts, H, W)."""

    def __init__(self, config: SegmenterConfig):
        super().__init__()
        self.config, places = config, config.patch**2
        net = UNetConfig(
            in_channels=config.channels * places,
            out_channels=config.parts * places,
            channels=config.widths,
            attention=(False,) * (len(config.widths) - 1) + (True,),
            time=32,
        )
        self.unet = UNet(net)

    def forward(self, images: Tensor) -> Tensor:
        places = F.pixel_unshuffle(images, self.config.patch)
        scores = self.unet(places, torch.zeros(len(images), device=images.device))  # there is no time: always 0
        return F.pixel_shuffle(scores, self.config.patch)

    @torch.no_grad()
    def read(self, images: Tensor, batch: int = 100) -> Tensor:
        """The likeliest part of each pixel, (B, H, W) long."""
        return torch.cat([self(part.clamp(-1, 1)).argmax(1) for part in images.split(batch)])

    def loss(self, images: Tensor, layout: Tensor) -> Tensor:
        """Cross-entropy and `overlap_loss` per picture, (B,), against part numbers (B, H, W)."""
        scores, layout = self(images), layout.long()
        return F.cross_entropy(scores, layout, reduction="none").flatten(1).mean(1) + overlap_loss(scores, layout)


def overlap_loss(scores: Tensor, layout: Tensor) -> Tensor:
    """1 - intersection / union of probabilities with the truth, (B,): the mean over the parts that a picture has.

    A pupil counts as much as the background here, and by its area in cross-entropy (Rahman & Wang, "Optimizing
    intersection-over-union in deep neural networks for image segmentation", ISVC 2016, equation 3).
    """
    ours = scores.softmax(1).flatten(2)  # (B, parts, H W)
    truth = torch.zeros_like(ours).scatter_(1, layout.flatten(1)[:, None], 1.0)
    both, there = (ours * truth).sum(2), truth.sum(2)  # (B, parts)
    missed = (1 - both / (ours.sum(2) + there - both)) * (there > 0)
    return missed.sum(1) / (there > 0).sum(1)


def mean_iou(layout: Tensor, truth: Tensor, parts: int) -> tuple[float, list[float]]:
    """Mean over the parts that occur of intersection / union, counted over all pixels of all maps; and that of each part.

    Maps (B, H, W) of part numbers (Everingham et al., "The Pascal VOC challenge: a retrospective", 2015, section 2.1).
    A part that neither side has is NaN and does not count.
    """
    pairs = torch.bincount(truth.flatten().long() * parts + layout.flatten().long(), minlength=parts**2)
    pairs = pairs.reshape(parts, parts).double()
    both = pairs.diagonal()
    each = both / (pairs.sum(0) + pairs.sum(1) - both)
    return each[~each.isnan()].mean().item(), each.tolist()
