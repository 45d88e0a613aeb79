"""A normalizing flow: steps that can each be undone exactly, and whose change of volume is known.

log p(x) = log N(code; 0, I) + log |det d code / d x|, so the flow is trained by likelihood alone. The steps are those of
Glow (Kingma & Dhariwal, NeurIPS 2018, table 1): scale and shift, mix the channels, and RealNVP's affine coupling (Dinh,
Sohl-Dickstein & Bengio, ICLR 2017, equations 7 and 8). Here the mixing is a rotation: it can never become singular.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nets.blocks import zero

LIMIT = 1.0  # of a log scale: a coupling that stretched by more would make rounding errors visible on the way back


@dataclass(frozen=True)
class FlowConfig:
    """`steps` at the resolution of x, then as many at half of it with four times the channels; widths: of their networks."""

    channels: int = 8
    steps: int = 8
    widths: tuple[int, int] = (128, 256)

    def __post_init__(self):
        if self.channels % 2:
            raise ValueError(f"channels: expected an even number, as a coupling has two halves, got {self.channels}")


class FlowNetwork(nn.Module):
    """x (B, c, H, W) <-> code (B, c, H, W), H and W even."""

    def __init__(self, config: FlowConfig = FlowConfig()):
        super().__init__()
        self.config = config
        (fine, coarse), c = config.widths, config.channels
        self.fine = nn.ModuleList(FlowStep(c, fine) for _ in range(config.steps))
        self.coarse = nn.ModuleList(FlowStep(4 * c, coarse) for _ in range(config.steps))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The code and log |det d code / d x| in nats, (B,). Raises ValueError for another shape."""
        self.check(x)
        total = x.new_zeros(len(x))
        for step in self.fine:
            x, logdet = step(x)
            total = total + logdet
        x = F.pixel_unshuffle(x, 2)  # (B, 4 c, H/2, W/2): a permutation, its volume is 1
        for step in self.coarse:
            x, logdet = step(x)
            total = total + logdet
        return F.pixel_shuffle(x, 2), total

    def inverse(self, code: Tensor) -> Tensor:
        """The x of which `forward` makes this code. Raises ValueError for another shape."""
        self.check(code)
        x = F.pixel_unshuffle(code, 2)
        for step in reversed(self.coarse):
            x = step.inverse(x)
        x = F.pixel_shuffle(x, 2)
        for step in reversed(self.fine):
            x = step.inverse(x)
        return x

    def nats(self, x: Tensor) -> Tensor:
        """-log p(x), (B,): a density's, so it may be negative."""
        code, logdet = self(x)
        return 0.5 * (code.square() + math.log(2 * math.pi)).flatten(1).sum(1) - logdet

    def check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.config.channels or x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"x: expected (B, {self.config.channels}, H, W), H and W even, got {tuple(x.shape)}")


class FlowStep(nn.Module):
    """x -> couple(rotate(e^log_scale (x + shift))): the second half of the channels is scaled and shifted by what a small
    network sees in the first, which stays as it is and can be asked again on the way back."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.shift, self.log_scale = (nn.Parameter(torch.zeros(channels, 1, 1)) for _ in range(2))
        self.angles = nn.Parameter(torch.randn(channels, channels))
        self.network = nn.Sequential(
            nn.Conv2d(channels // 2, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 1),
            nn.SiLU(),
            zero(nn.Conv2d(width, channels, 3, padding=1)),  # a new step couples nothing
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, H, W) -> the same, and the log of the volume's change, (B,)."""
        x = mix(self.rotation(), self.log_scale.exp() * (x + self.shift))
        first, second = x.chunk(2, dim=1)
        log_scale, shift = self.coupling(first)
        x = torch.cat([first, log_scale.exp() * (second + shift)], dim=1)
        return x, log_scale.flatten(1).sum(1) + self.log_scale.sum() * x[0, 0].numel()

    def inverse(self, x: Tensor) -> Tensor:
        """Undo `forward`, the last thing first."""
        first, second = x.chunk(2, dim=1)
        log_scale, shift = self.coupling(first)
        x = torch.cat([first, (-log_scale).exp() * second - shift], dim=1)
        return (-self.log_scale).exp() * mix(self.rotation().T, x) - self.shift

    def coupling(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """The log scale, in (-LIMIT, LIMIT), and the shift of the second half."""
        log_scale, shift = self.network(first).chunk(2, dim=1)
        return LIMIT * torch.tanh(log_scale / LIMIT), shift

    def rotation(self) -> Tensor:
        """exp(A - A^T), (c, c): its inverse is its transpose and its determinant 1, whatever A is."""
        return torch.matrix_exp(self.angles - self.angles.T)


def mix(matrix: Tensor, x: Tensor) -> Tensor:
    """The matrix (c, c) times the vector of channels at every place of x (B, c, H, W)."""
    return F.conv2d(x, matrix[:, :, None, None])
