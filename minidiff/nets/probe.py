"""A small network that looks at a picture and reads what is in it: species, place, tilt, gaze, colours, accessories.

It is the judge of every table: its answers score a translation factor by factor, and its penultimate layer is the space
in which minidiff measures Frechet and kernel distances (after Heusel et al., "GANs trained by a two time-scale update
rule", NeurIPS 2017, who used a far larger network; ours is no substitute for theirs and is never called FID).
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.seeds import uniform


@dataclass(frozen=True)
class ProbeConfig:
    """What a probe looks at and what it reads.

    numbers: name -> width of each factor it regresses (x: 1, coat: 3); classes: name -> how many there are.
    patch: the picture is cut into patch x patch tiles first, so that everything after runs on a 16 x 16 map.
    """

    channels: int = 3
    size: int = 64
    patch: int = 4
    widths: tuple[int, ...] = (64, 96, 128)
    features: int = 64
    numbers: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))
        coarsest = self.patch * 2 ** (len(self.widths) - 1)
        if self.size % coarsest:
            raise ValueError(
                f"size: expected a multiple of {coarsest} (patch {self.patch}, {len(self.widths)} widths), got {self.size}"
            )
        if not (self.numbers or self.classes):
            raise ValueError("numbers, classes: a probe needs at least one factor to read, got none")


class Probe(nn.Module):
    """images (B, C, size, size) in [-1, 1] -> factors, by strided residual convolutions and one linear layer a factor.

    The last map (4 x 4) is flattened, not averaged: gaze and tilt are questions of where.
    """

    def __init__(self, config: ProbeConfig):
        super().__init__()
        self.config = config
        side = config.size // (config.patch * 2 ** (len(config.widths) - 1))
        self.trunk = trunk(config.channels, config.patch, config.widths)
        self.penultimate = nn.Linear(config.widths[-1] * side**2, config.features)
        total = sum(config.numbers.values())
        self.regress = nn.Linear(config.features, total) if total else None
        self.classify = nn.ModuleDict({name: nn.Linear(config.features, n) for name, n in config.classes.items()})
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("std", torch.ones(total))

    def features(self, images: Tensor) -> Tensor:
        """What the probe knows before it answers, (B, D): the space of the Frechet and kernel distances."""
        self._check(images)
        return self.penultimate(self.trunk(images))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The feature maps after each residual block, fine to coarse, (B, widths[l], H / (patch 2^l), W / (patch 2^l)).

        Pictures of any size whose sides the coarsest map divides: nothing is flattened yet.
        """
        maps = []
        for layer in self.trunk:
            if isinstance(layer, nn.SiLU):
                break
            images = layer(images)
            if isinstance(layer, _Residual):
                maps.append(images)
        return maps

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(standardised numbers (B, total), class name -> logits (B, n))."""
        return self.heads(self.features(images))

    def heads(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """`forward` from the features (B, D) on."""
        hidden = F.silu(features)
        standardised = self.regress(hidden) if self.regress else hidden[:, :0]
        return standardised, {name: head(hidden) for name, head in self.classify.items()}

    @torch.no_grad()
    def read(self, images: Tensor) -> dict[str, Tensor]:
        """Every factor in its own unit: numbers (B,) or (B, width) float, classes (B,) long (the likeliest)."""
        return self.answers(*self(images))

    def answers(self, standardised: Tensor, logits: dict[str, Tensor]) -> dict[str, Tensor]:
        """Network outputs -> factors in their own units."""
        numbers = (standardised * self.std + self.mean).split(list(self.config.numbers.values()), dim=1)
        read = {
            name: value.squeeze(1) if width == 1 else value
            for (name, width), value in zip(self.config.numbers.items(), numbers)
        }
        return read | {name: value.argmax(1) for name, value in logits.items()}

    def loss(self, images: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Per item, (B,): squared error of the standardised numbers (mean of each factor) plus cross-entropies."""
        standardised, logits = self(images)
        loss = images.new_zeros(len(images))
        if self.config.numbers:
            error = (standardised - (self._flat(targets) - self.mean) / self.std).square()
            for part in error.split(list(self.config.numbers.values()), dim=1):
                loss = loss + part.mean(1)
        for name, value in logits.items():
            loss = loss + F.cross_entropy(value, targets[name].long(), reduction="none")
        return loss

    @torch.no_grad()
    def fit_scale(self, targets: dict[str, Tensor]) -> None:
        """Measure mean and standard deviation of each number on some targets, so that all weigh alike in the loss."""
        if self.config.numbers:
            flat = self._flat(targets)
            self.mean.copy_(flat.mean(0))
            self.std.copy_(flat.std(0).clamp(min=1e-6))

    def _flat(self, targets: dict[str, Tensor]) -> Tensor:
        missing = [name for name in (*self.config.numbers, *self.config.classes) if name not in targets]
        if missing:
            raise ValueError(f"targets: missing {', '.join(missing)}; got {', '.join(targets) or 'nothing'}")
        columns = [targets[name].to(self.mean).reshape(-1, width) for name, width in self.config.numbers.items()]
        return torch.cat(columns, dim=1)  # (B, total)

    def _check(self, images: Tensor) -> None:
        expected = (self.config.channels, self.config.size, self.config.size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images: this probe reads (B, {', '.join(map(str, expected))}), got {tuple(images.shape)}"
            )


def trunk(channels: int, patch: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Strided residual convolutions: (B, channels, H, W) -> the last map, flattened; widths from fine to coarse."""
    layers = [nn.PixelUnshuffle(patch), _conv(channels * patch**2, widths[0])]
    for width, wider in zip(widths, [*widths[1:], None]):
        layers.append(_Residual(width))
        if wider is not None:
            layers.append(_conv(width, wider, stride=2))
    return nn.Sequential(*layers, nn.SiLU(), nn.Flatten())


def augment(images: Tensor, seeds: Tensor) -> Tensor:
    """What an autoencoder may do to a picture, so that the probe learns to look past it: blur, noise, contrast.

    images (B, C, H, W), seeds (B,) int64. Half of the items are blurred by a Gaussian of up to 1.2 pixels; all get
    noise of std up to 0.08, contrast within 4 % and brightness within 0.04. Item i depends on seeds[i] alone.
    """
    draw = uniform(seeds, (5,), "augment", images.dtype).T[..., None, None, None].to(images.device)  # (5, B, 1, 1, 1)
    sigma = (2.4 * draw[0] - 1.2).clamp(min=0.05)
    images = _blur(images, sigma.flatten())
    images = images * (0.96 + 0.08 * draw[1]) + 0.08 * (draw[2] - 0.5)
    # Uniform noise of the right std: what matters here is its strength, and it costs a third of a normal's time.
    noise = (12**0.5) * (uniform(seeds, images.shape[1:], "noise", images.dtype).to(images.device) - 0.5)
    return images + 0.08 * draw[3] * noise


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each item by its own sigma (B,), in pixels, edges repeated."""
    offsets = torch.arange(-3, 4, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma[:, None] ** 2), dim=1)  # (B, 7)
    batch, channels, height, width = images.shape
    kernel = kernel.repeat_interleave(channels, 0)[:, None]  # (B C, 1, 7)
    padded = F.pad(images, (3, 3, 3, 3), mode="replicate").reshape(1, batch * channels, height + 6, width + 6)
    rows = F.conv2d(padded, kernel[:, :, None, :], groups=batch * channels)
    return F.conv2d(rows, kernel[:, :, :, None], groups=batch * channels).reshape(images.shape)


class _Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))): absolute colour travels along x, which no norm touches."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Sequential(_normed(width), _conv(width, width), _normed(width), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def _normed(width: int) -> nn.Sequential:
    return nn.Sequential(nn.GroupNorm(8, width), nn.SiLU())
