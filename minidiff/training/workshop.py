"""What an autoencoder needs while it is made and no longer: a probe's eyes, an adversary, the upkeep of its codebook.

The three terms that make a reconstruction look right (Rombach et al., CVPR 2022, section 3.1): distance of the pictures,
distance of their features, and what a discriminator that learns beside the decoder still finds wrong.
"""

from torch import Tensor, nn

from minidiff.nets.autoencoder import Autoencoder
from minidiff.nets.discriminator import Discriminator, adaptive_weight, displeasure, hinge
from minidiff.nets.probe import Probe
from minidiff.nets.quantiser import Upkeep


class Workshop(nn.Module):
    """One module for the one optimizer, the one average and the one checkpoint; the zoo keeps its `autoencoder`."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        probe: Probe | None = None,
        discriminator: Discriminator | None = None,
        upkeep: Upkeep | None = None,
    ):
        super().__init__()
        self.autoencoder, self.probe, self.discriminator, self.upkeep = autoencoder, probe, discriminator, upkeep


def adversary(workshop: Workshop, pictures: Tensor, images: Tensor, loss: Tensor, weight: float) -> Tensor:
    """Both sides of the game per item, (B,): what fools the discriminator, and what teaches it; one step for both.

    `loss` (B,) is all else that the decoder pays for `pictures`; its gradient sets the strength of the first term.
    """
    doubts = displeasure(workshop.discriminator, pictures)
    balance = adaptive_weight(loss.mean(), doubts.mean(), workshop.autoencoder.last_layer)
    lesson = hinge(workshop.discriminator(images), workshop.discriminator(pictures.detach()))
    return weight * balance * doubts + lesson
