"""The other player of a GAN, and the rules: which of a real and a made picture looks more real?

The loss of R3GAN (Huang et al., "The GAN is dead; long live the GAN!", NeurIPS 2024, section 2): each made picture is
compared with a real one (Jolicoeur-Martineau, ICLR 2019), and the critic's slope is held down at both (R1 of Mescheder,
Geiger & Nowozin, ICML 2018, and its twin R2). So the game converges near its end and no mode can be left out for free, which
suits a small budget: nothing is balanced by hand, and one step of one optimizer moves both players.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from minidiff.nets.blocks import time_embedding, zero
from minidiff.nets.pyramid import smallest


class Critic(nn.Module):
    """x (B, C, size, size) -> how real each item looks, (B,). It has no norms, as R3GAN's has none.

    It may be shown something else with x, `beside` (B, C', size, size): then `channels` counts both; and, with `time` > 0, be
    told a noise level t (B,).
    """

    def __init__(self, channels: int, size: int, patch: int, widths: tuple[int, ...], time: int = 0):
        super().__init__()
        side = smallest(size, patch, widths)
        self.first = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(channels * patch**2, widths[0], 3, padding=1))
        self.blocks = nn.ModuleList(PlainBlock(width, time) for width in widths)
        self.shrink = nn.ModuleList(
            nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * fine, coarse, 1)) for fine, coarse in pairwise(widths)
        )
        self.last = nn.Linear(widths[-1] * side**2, 1)
        self.time = time

    def forward(self, x: Tensor, beside: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        x = x if beside is None else torch.cat([x, beside], dim=1)
        time = time_embedding(t, self.time).to(x.dtype) if self.time else None
        h = self.blocks[0](self.first(x), time)
        for shrink, block in zip(self.shrink, self.blocks[1:], strict=True):
            h = block(shrink(h), time)
        return self.last(F.leaky_relu(h, 0.2).flatten(1)).squeeze(1)


class PlainBlock(nn.Module):
    """x + conv(lrelu(conv(lrelu(x)) + time)), the identity at first: (B, c, H, W) -> same."""

    def __init__(self, channels: int, time: int = 0):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero(nn.Conv2d(channels, channels, 3, padding=1))
        self.time = nn.Linear(time, channels) if time else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.conv1(F.leaky_relu(x, 0.2))
        if self.time is not None:
            h = h + self.time(time)[:, :, None, None]
        return x + self.conv2(F.leaky_relu(h, 0.2))


def duel(critic: nn.Module, real: Tensor, made: Tensor, gamma: float, *given: Tensor) -> tuple[Tensor, Tensor]:
    """The losses (B,) of the generator, whose `made` (B, C, H, W) are to look more real than `real`, and of the critic.

    `given` is what else the critic is told about both. Each loss teaches its own player only.
    """
    real, seen = real.detach().requires_grad_(), made.detach().requires_grad_()
    on_real, on_made = critic(real, *given), critic(seen, *given)
    steepness = slope(on_real, real) + slope(on_made, seen)  # R1 + R2
    lesson = F.softplus(on_made - on_real) + 0.5 * gamma * steepness
    fixed = {name: weight.detach() for name, weight in critic.named_parameters()}
    return F.softplus(on_real.detach() - functional_call(critic, fixed, (made, *given))), lesson


def slope(answers: Tensor, x: Tensor) -> Tensor:
    """|d answer / d x|^2 per item, (B,); differentiable, so that it can be held down."""
    (gradient,) = torch.autograd.grad(answers.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)
