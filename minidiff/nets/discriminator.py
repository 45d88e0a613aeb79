"""A critic of small patches, and the game it plays with the decoder: what tells a reconstruction from a picture?

PatchGAN (Isola et al., CVPR 2017, section 3.2.2) with the hinge loss (Lim & Ye, "Geometric GAN", 2017, equation 7 and 8)
and the weight of VQGAN (Esser, Rombach & Ommer, CVPR 2021, equation 7), as latent diffusion trains its autoencoders.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class Discriminator(nn.Module):
    """images (B, C, H, W) -> one number per patch, (B, 1, H/4, W/4): positive where it looks real.

    Each number sees 24 x 24 pixels and no more: there are no norms, whose statistics would let it see the whole
    picture, or other ones. H and W are multiples of 4.
    """

    def __init__(self, image_channels: int = 3, width: int = 32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),  # (B, 4 C, H/2, W/2)
            nn.Conv2d(4 * image_channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.PixelUnshuffle(2),  # (B, 4 width, H/4, W/4)
            nn.Conv2d(4 * width, 2 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss per item (B,) from its answers to real and fake pictures: 0 once both are beyond 1."""
    return 0.5 * (F.relu(1 - real) + F.relu(1 + fake)).flatten(1).mean(1)


def displeasure(discriminator: nn.Module, pictures: Tensor) -> Tensor:
    """The generator's loss per item, (B,): minus what the discriminator says. It learns nothing from this itself."""
    fixed = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    return -functional_call(discriminator, fixed, (pictures,)).flatten(1).mean(1)


def adaptive_weight(nll: Tensor, g: Tensor, last_layer: Tensor) -> Tensor:
    """|d nll / d last_layer| / (|d g / d last_layer| + 1e-4), in [0, 1e4]: as much pull from one loss as from the other.

    `nll` and `g` are scalars of one graph, which is kept; the result is a constant (Esser et al., equation 7).
    """
    of_nll, of_g = (torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in (nll, g))
    return (of_nll / (of_g + 1e-4)).clamp(0, 1e4)
