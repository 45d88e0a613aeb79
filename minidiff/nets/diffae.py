"""A diffusion autoencoder: a vector says what is in the picture, the noise x_T only how it is carried out.

Preechakul et al., "Diffusion autoencoders: toward a meaningful and decodable representation" (CVPR 2022): an encoder of whole
pictures is trained with the denoiser that it tells its vector to, and a second, small denoiser learns which vectors there are.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from minidiff.denoiser import Denoiser
from minidiff.nets.blocks import time_embedding, zero
from minidiff.nets.pyramid import to_vector
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.nets.words import Words
from minidiff.schedule import schedule


@dataclass(frozen=True)
class DiffAEConfig:
    """in_channels, size: of the latents; semantic: numbers of the vector, told as `tokens` tokens of width `context`; encoder:
    its widths; prior: width and depth of the denoiser of vectors; the rest as in `UNetConfig`."""

    in_channels: int = 8
    size: int = 8
    channels: tuple[int, ...] = (64, 128)
    attention: tuple[bool, ...] = (True, True)
    time: int = 128
    semantic: int = 64
    tokens: int = 4
    context: int = 64
    encoder: tuple[int, ...] = (64, 128)
    prior: tuple[int, int] = (256, 3)
    schedule: str = "linear"


class DiffAENetwork(nn.Module):
    """encoder: latents (B, c, h, w) -> z_sem (B, semantic); words: z_sem -> what `denoiser` attends to; prior: the denoiser of
    z_sem as pictures (B, semantic, 1, 1).

    The encoder ends in a layer norm: a z_sem has mean 0 and std 1 over its numbers, so the prior's noise needs no scale. The
    paper standardises each number over the data instead, once the first training is over.
    """

    def __init__(self, config: DiffAEConfig = DiffAEConfig()):
        super().__init__()
        self.config, noise = config, schedule(config.schedule)
        self.encoder = nn.Sequential(
            to_vector(config.in_channels, config.size, 1, config.encoder, config.semantic),
            nn.LayerNorm(config.semantic, elementwise_affine=False),
        )
        self.words = Words(config.semantic, config.tokens, config.context)
        unet = UNetConfig(
            config.in_channels, config.channels, config.attention, time=config.time, context=config.context
        )
        self.denoiser = Denoiser(UNet(unet), noise, "v")
        self.prior = Denoiser(VectorNetwork(config.semantic, *config.prior), noise, "v")


class VectorNetwork(nn.Module):
    """(x (B, D, 1, 1), t (B,)) -> (B, D, 1, 1): residual layers, each told the noise level (the paper's appendix A.1)."""

    def __init__(self, channels: int, width: int, depth: int):
        super().__init__()
        self.first, self.last = nn.Linear(channels, width), zero(nn.Linear(width, channels))
        self.time = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        waves = time_embedding(t, h.shape[1]).to(h.dtype)  # (B, width)
        for time, layer in zip(self.time, self.layers, strict=True):
            h = h + layer(h + time(waves))
        return self.last(h)[..., None, None]
