"""An autoencoder: pictures to small latents and back, through one of two bottlenecks (Rombach et al., CVPR 2022, 3.1).

"kl" ("KL-reg."): a latent is a Gaussian kept near the standard normal; what its noise hides, the decoder must do without.
"vq" ("VQ-reg."): a latent is a point, and the first thing the decoder does is to move it to the nearest of a few codes.
Diffusion runs on the points before that move, and small errors of its are undone by it.

Space-to-depth comes first and depth-to-space last, so the work is done at low resolution and no pixel is thrown away
before the first convolution has seen it. The autoencoder owns its scale: latents leave with unit std per channel.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minidiff.nets.blocks import ResBlock
from minidiff.nets.quantiser import VectorQuantiser
from minidiff.seeds import Seeds, as_seeds, normal

BOTTLENECKS = ("kl", "vq")


@dataclass(frozen=True)
class AutoencoderConfig:
    """Widths from fine to coarse. One side of the latents is one side of the picture / (2 * patch)."""

    image_channels: int = 3
    latent_channels: int = 8
    patch: int = 4  # pixels of a patch become channels: 64x64x3 -> 16x16x48
    encoder: tuple[int, int] = (64, 160)  # widths at 1/patch and 1/(2 patch) of the resolution
    decoder: tuple[int, int, int] = (24, 80, 192)  # widths at 2/patch (at most 1), 1/patch and 1/(2 patch)
    depth: int = 2  # residual blocks of the decoder at the lowest resolution, where they are cheap and see far
    bottleneck: str = "kl"  # or "vq"
    codes: int = 0  # of the codebook of "vq"

    def __post_init__(self):
        if self.patch not in (1, 2, 4, 8):
            raise ValueError(f"patch: expected 1, 2, 4 or 8 pixels, got {self.patch}")
        if self.bottleneck not in BOTTLENECKS:
            raise ValueError(f"bottleneck: expected one of {', '.join(BOTTLENECKS)}, got {self.bottleneck!r}")
        if self.bottleneck == "vq" and self.codes < 2:
            raise ValueError(f"codes: expected at least 2 with bottleneck 'vq', got {self.codes}")
        if self.bottleneck != "vq" and self.codes:
            raise ValueError(f"codes: expected 0, only bottleneck 'vq' has codes, got {self.codes}")

    @property
    def factor(self) -> int:
        """How many pixels one latent is wide (f in the paper)."""
        return 2 * self.patch


class Autoencoder(nn.Module):
    """images (B, C, H, W) in [-1, 1] <-> latents (B, c, H/f, W/f) with zero mean and unit std per channel."""

    def __init__(self, config: AutoencoderConfig = AutoencoderConfig()):
        super().__init__()
        self.config = config
        self.encoder, self.decoder = make_encoder(config), make_decoder(config)
        self.quantiser = VectorQuantiser(config.codes, config.latent_channels) if config.bottleneck == "vq" else None
        self.register_buffer("shift", torch.zeros(config.latent_channels))
        self.register_buffer("scale", torch.ones(config.latent_channels))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(latents | images), before shift and scale, each (B, c, H/f, W/f).

        With "vq" the latents are certain: the mean is the vector before quantisation, the log variance is -inf.
        """
        self.latent_shape(images.shape)
        if self.quantiser is not None:
            mean = self.encoder(images)
            return mean, torch.full_like(mean, -math.inf)
        mean, logvar = self.encoder(images).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def encode(self, images: Tensor, seeds: Seeds | None = None) -> Tensor:
        """Latents (B, c, H/f, W/f): the posterior mean, or a sample of the posterior when `seeds` are given."""
        mean, logvar = self.posterior(images)
        if seeds is not None:
            noise = normal(as_seeds(seeds, len(mean), mean.device), mean.shape[1:], "posterior", mean.dtype)
            mean = mean + (0.5 * logvar).exp() * noise
        return (mean - self.shift[:, None, None]) / self.scale[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, C, H, W), near [-1, 1] but not clamped; with "vq" the latents are quantised first.

        Raises ValueError for another number of channels.
        """
        if latents.ndim != 4 or latents.shape[1] != self.config.latent_channels:
            raise ValueError(f"latents: expected (B, {self.config.latent_channels}, H, W), got {tuple(latents.shape)}")
        raw = latents * self.scale[:, None, None] + self.shift[:, None, None]
        return self.decoder(raw if self.quantiser is None else self.quantiser(raw))

    def bits(self, images: Tensor) -> Tensor:
        """What sending the latents of each picture costs, (B,).

        "kl": the KL divergence, the price of a sample of the posterior in bits-back coding (Hinton & van Camp, COLT
        1993). "vq": places * log2(codes), whatever the picture; a code fitted to how often each is used would pay
        places * `quantiser.entropy`.
        """
        if self.quantiser is None:
            return kl(*self.posterior(images)) / math.log(2)
        _, height, width = self.latent_shape(images.shape)
        return torch.full((len(images),), height * width * math.log2(self.config.codes), device=images.device)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight that makes the colours: where losses on the pictures are compared (Esser et al., equation 7)."""
        return self.decoder[-2].weight

    def latent_shape(self, image_shape: Iterable[int]) -> tuple[int, int, int]:
        """(c, H/f, W/f) for pictures of shape (..., C, H, W). Raises ValueError when they do not fit."""
        *_, channels, height, width = image_shape
        f = self.config.factor
        if channels != self.config.image_channels or height % f or width % f or not height or not width:
            raise ValueError(
                f"images: expected {self.config.image_channels} channels and sides that are multiples of {f}, "
                f"got shape {tuple(image_shape)}"
            )
        return self.config.latent_channels, height // f, width // f

    @torch.no_grad()
    def fit_scale(self, batches: Iterable[Tensor]) -> None:
        """Measure shift and scale so that posterior samples of these pictures have zero mean and unit std per channel.

        The variance of a sample is the variance of the means plus the mean of the variances: no noise is drawn.
        """
        count, total, square = 0, 0.0, 0.0
        for images in batches:
            mean, logvar = (part.double().transpose(0, 1).flatten(1) for part in self.posterior(images))  # (c, B*h*w)
            count += mean.shape[1]
            total = total + mean.sum(1)
            square = square + (mean**2 + logvar.exp()).sum(1)
        if not count:
            raise ValueError("batches: expected at least one batch of pictures, got none")
        shift = total / count
        self.shift.copy_(shift)
        self.scale.copy_((square / count - shift**2).clamp(min=1e-12).sqrt())


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, I)) in nats per picture, (B,) (Kingma & Welling, ICLR 2014, appendix B)."""
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)


def make_encoder(config: AutoencoderConfig) -> nn.Sequential:
    fine, coarse = config.encoder
    outputs = (2 if config.bottleneck == "kl" else 1) * config.latent_channels  # mean and log variance, or a vector
    return nn.Sequential(
        nn.PixelUnshuffle(config.patch),  # (B, C * patch^2, H/patch, W/patch)
        nn.Conv2d(config.image_channels * config.patch**2, fine, 3, padding=1),
        ResBlock(fine, fine),
        nn.PixelUnshuffle(2),  # (B, 4 fine, H/f, W/f)
        nn.Conv2d(4 * fine, coarse, 1),
        ResBlock(coarse, coarse),
        nn.Conv2d(coarse, outputs, 3, padding=1),
    )


def make_decoder(config: AutoencoderConfig) -> nn.Sequential:
    finest, fine, coarse = config.decoder
    step = min(2, config.patch)  # a patch of one pixel is whole after the first step up
    rest = config.patch // step
    return nn.Sequential(
        nn.Conv2d(config.latent_channels, coarse, 3, padding=1),
        *(ResBlock(coarse, coarse) for _ in range(config.depth)),
        nn.Conv2d(coarse, 4 * fine, 1),
        nn.PixelShuffle(2),  # (B, fine, H/patch, W/patch)
        ResBlock(fine, fine),
        nn.Conv2d(fine, step**2 * finest, 1),
        nn.PixelShuffle(step),  # (B, finest, step H/patch, step W/patch)
        ResBlock(finest, finest),
        nn.Conv2d(finest, config.image_channels * rest**2, 3, padding=1),
        nn.PixelShuffle(rest),  # (B, C, H, W)
    )
