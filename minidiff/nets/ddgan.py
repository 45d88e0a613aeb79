"""A denoiser that guesses: told noise z besides x_t, it draws one of the many x0 that x_t may have come from.

Xiao, Kreis & Vahdat, "Tackling the generative learning trilemma with denoising diffusion GANs" (ICLR 2022). The mean of all
possible x0, which an ordinary denoiser sees, is a good guess for small steps only; with draws a few large steps will do.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from minidiff.nets.unet import UNet, UNetConfig
from minidiff.nets.words import Words
from minidiff.schedule import schedule, step_grid


@dataclass(frozen=True)
class DDGANConfig:
    """code: numbers of z, told as `tokens` tokens of width `context`; steps: how many there are from noise to clean data, on
    this schedule; the rest as in `UNetConfig`."""

    in_channels: int = 8
    channels: tuple[int, ...] = (64, 128)
    attention: tuple[bool, ...] = (True, True)
    time: int = 128
    code: int = 64
    tokens: int = 4
    context: int = 64
    steps: int = 4
    schedule: str = "linear"


class DDGANNetwork(nn.Module):
    """x_t (B, C, H, W), t (B,), z (B, code) -> a draw of x0 (B, C, H, W)."""

    def __init__(self, config: DDGANConfig = DDGANConfig()):
        super().__init__()
        self.config, self.schedule = config, schedule(config.schedule)
        self.grid = step_grid(self.schedule, config.steps)
        self.unet = UNet(
            UNetConfig(config.in_channels, config.channels, config.attention, time=config.time, context=config.context)
        )
        self.words = Words(config.code, config.tokens, config.context)

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        return self.unet(x, t, tokens=self.words(z))
