"""Who is it? Pictures -> unit vectors that point one way for one individual, whatever its pose, mood and background.

Trained with an additive angular margin (Deng et al., "ArcFace", CVPR 2019): every known individual has a direction, and a
picture counts as its own only when it is nearer by the margin. For strangers the angle between two pictures is the answer.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nets.probe import trunk
from minidiff.nets.pyramid import smallest


@dataclass(frozen=True)
class IdentityConfig:
    """channels, size: of the pictures; patch, widths: of the trunk, as in a probe; features: width of the vectors."""

    channels: int = 3
    size: int = 64
    patch: int = 4
    widths: tuple[int, ...] = (64, 96, 128)
    features: int = 64

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))
        smallest(self.size, self.patch, self.widths)  # refuses a size that cannot be halved so often

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size


class IdentityNet(nn.Module):
    """images (B, C, size, size) in [-1, 1] -> unit vectors (B, features). Raises ValueError for another shape.

    No batch normalisation, which ArcFace has: the vector of a picture does not depend on the others of its batch.
    """

    def __init__(self, config: IdentityConfig):
        super().__init__()
        self.config = config
        side = smallest(config.size, config.patch, config.widths)
        self.trunk = trunk(config.channels, config.patch, config.widths)
        self.project = nn.Linear(config.widths[-1] * side**2, config.features)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or tuple(images.shape[1:]) != self.config.shape:
            expected = ", ".join(map(str, self.config.shape))
            raise ValueError(f"images: this identity network sees (B, {expected}), got {tuple(images.shape)}")
        return F.normalize(self.project(self.trunk(images)), dim=1)


class Acquaintances(nn.Module):
    """A network and the directions of the `count` individuals that it is trained on; the zoo keeps the network."""

    def __init__(self, network: IdentityNet, count: int):
        super().__init__()
        self.network = network
        self.centers = nn.Parameter(F.normalize(torch.randn(count, network.config.features), dim=1))

    def forward(self, images: Tensor) -> Tensor:
        """Cosines of the angles between pictures and individuals, (B, count)."""
        return self.network(images) @ F.normalize(self.centers, dim=1).T


def angular_margin(cosines: Tensor, individuals: Tensor, margin: float, scale: float) -> Tensor:
    """-log of e^(s cos(theta_y + m)) / (e^(s cos(theta_y + m)) + sum_{j != y} e^(s cos theta_j)), in nats, (B,).

    cosines (B, N) of the angles theta, individuals (B,) the right ones y (Deng et al., equation 3). An angle ends at pi:
    beyond pi - m the cosine of the sum would rise again.
    """
    own = F.one_hot(individuals, cosines.shape[1])  # (B, N)
    angles = cosines.clamp(-1 + 1e-6, 1 - 1e-6).acos()  # whose slope is infinite at 1
    logits = scale * (angles + margin * own).clamp(max=math.pi).cos()
    return F.cross_entropy(logits, individuals, reduction="none")
