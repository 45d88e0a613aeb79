"""The generator of a GAN with a style: a vector is mapped to how strongly each feature speaks, layer by layer.

It draws latents of an autoencoder, which is a hundredth of the work of drawing pictures and leaves the look of hair to the
decoder, or pictures. StyleGAN2's mapping network and modulated convolutions (Karras et al., CVPR 2020, section 2.2), without
its noise inputs: what it draws is a function of the code alone. The mapped code is kept, although the game it is trained by
(`minidiff.nets.critic`) does without tricks, because it is where pictures can be drawn towards the average one, StyleGAN's
truncation (Karras, Laine & Aila, CVPR 2019, appendix B): the trade of diversity for looks that GANs are known by.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nets.pyramid import smallest
from minidiff.seeds import as_seeds, normal

CODES_OF_CENTER = 10_000


@dataclass(frozen=True)
class GANConfig:
    """Of pictures or latents, `channels` of side `size`. code: numbers of the code and of the mapped code; depth: layers of the
    mapping; widths of the synthesis from coarse to fine, the last at 1/patch of the resolution."""

    channels: int = 8
    size: int = 8
    code: int = 128
    depth: int = 3
    widths: tuple[int, ...] = (256, 192, 128)
    patch: int = 1


class GANNetwork(nn.Module):
    """code (B, code) -> style w (B, code) -> pictures or latents (B, channels, size, size)."""

    def __init__(self, config: GANConfig = GANConfig()):
        super().__init__()
        self.config, code, widths = config, config.code, config.widths
        side = smallest(config.size, config.patch, widths)
        layers = [(loud(nn.Linear(code, code), math.sqrt(2)), nn.LeakyReLU(0.2)) for _ in range(config.depth)]
        self.mapping = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.register_buffer("center", torch.zeros(code))  # the mean style
        self.first = nn.Parameter(torch.randn(widths[0], side, side))  # what every picture begins with
        self.see = nn.ModuleList(Modulated(width, width, 3, code) for width in widths)
        self.grow = nn.ModuleList(Modulated(coarse, 4 * fine, 1, code) for coarse, fine in pairwise(widths))
        self.last = nn.Conv2d(widths[-1], config.channels * config.patch**2, 3, padding=1)

    def forward(self, code: Tensor, psi: float = 1.0) -> Tensor:
        """psi in [0, 1] draws the style towards the mean of all: w <- center + psi (w - center)."""
        return self.synthesis(self.center + psi * (self.mapping(code) - self.center))

    def synthesis(self, w: Tensor) -> Tensor:
        """Styles (B, code) -> pictures, near [-1, 1] but not clamped, or latents."""
        h = self.see[0](self.first.expand(len(w), -1, -1, -1), w)
        for grow, see in zip(self.grow, self.see[1:], strict=True):
            h = see(F.pixel_shuffle(grow(h, w), 2), w)
        return F.pixel_shuffle(self.last(h), self.config.patch)

    @torch.no_grad()
    def fit_center(self) -> None:
        """Measure the mean style of random codes."""
        seeds = as_seeds(0, CODES_OF_CENTER, self.center.device)
        self.center.copy_(self.mapping(normal(seeds, (self.config.code,), "center", self.center.dtype)).mean(0))


class Modulated(nn.Module):
    """A convolution whose input channels are scaled by the style, and whose outputs are divided by the size that this gives
    them: (B, c_in, H, W), (B, style) -> (B, c_out, H, W) (Karras et al., equations 1 to 3), then a leaky ReLU.

    The scales are taken to the channels before the convolution and after it, which is the same as to its weights, item by
    item, and keeps it one convolution for the whole batch.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, style: int):
        super().__init__()
        self.style = loud(nn.Linear(style, c_in))
        nn.init.ones_(self.style.bias)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel) / math.sqrt(c_in * kernel**2))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        scale = self.style(w)  # (B, c_in)
        size = (scale.square() @ self.weight.square().sum((2, 3)).T + 1e-8).sqrt()  # (B, c_out)
        y = F.conv2d(x * scale[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        y = y / size[:, :, None, None] + self.bias[:, None, None]
        return math.sqrt(2) * F.leaky_relu(y, 0.2)


def loud(layer: nn.Linear, gain: float = 1.0) -> nn.Linear:
    """The layer with weights that pass on the variance of what comes in (He et al., ICCV 2015, equation 10): with torch's own
    the mapped code would be less than half as large after each layer, and the first pictures would all be one."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_features))
    return layer
