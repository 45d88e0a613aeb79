"""minidiff's networks once more, made of `layers`: the same functions of the same weights, in fewer operations.

What does not depend on x_t is done once: what a noise level does to every block (a scale and a shift each) and the keys
and values of the tokens. What the items of a guided batch share, everything before the first look at the tokens, too.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.conditioning import Condition
from minidiff.fast.denoisers import QuickDenoiser
from minidiff.fast.layers import (
    Attention,
    Block,
    Columns,
    Cross,
    Matrix,
    Norm,
    Shifted,
    make_convolution,
    pixels_first,
    pixels_last,
    shuffle,
    unshuffle,
)
from minidiff.nets.autoencoder import Autoencoder
from minidiff.nets.blocks import ResBlock, time_embedding
from minidiff.nets.diffae import DiffAENetwork
from minidiff.nets.unet import Stage, UNet

LARGEST = 16  # pixels a side: beyond, the transforms of `winograd`, dense matrices, cost more than they save
LEVELS = 1024  # noise levels remembered


class Told(NamedTuple):
    """What a network was told, ready for use: keys and values by cross-attention, mask (R, 1, 1, L), features, rows R."""

    keys_values: list[tuple[Tensor, Tensor]]
    mask: Tensor | None
    features: Tensor | None  # (h, w, R, K)
    rows: int


class QuickUNet:
    """`UNet` in float32 on the CPU: (x (n, C, H, W), t, told for R = n or 2 n rows) -> (R, C, H, W).

    Told about 2 n rows, x stands for both halves. It holds copies: change the network and it must be made anew.
    """

    check = UNet.check  # asks for the config only

    def __init__(self, net: UNet, form: str) -> None:
        convolution = make_convolution(form)
        self.config, self.time = net.config, net.time
        self.first, self.last, self.norm = convolution(net.first), convolution(net.last), Norm(net.norm)
        self.down, self.up = ([QuickStage(s, convolution) for s in stages] for stages in (net.down, net.up))
        self.middle = Block(net.middle, convolution)
        self.shrink, self.grow = [Columns(conv) for conv in net.shrink], [Matrix(grow[0]) for grow in net.grow]
        self.blocks = [*(stage.block for stage in net.down), net.middle, *(stage.block for stage in reversed(net.up))]
        self.levels: dict[float, list[Shifted]] = {}

    @torch.inference_mode()
    def __call__(self, x: Tensor, t: float, told: Told) -> Tensor:
        shifts, layers = iter(self.at(t)), iter(told.keys_values)
        h = pixels_first(F.pixel_unshuffle(x.float(), self.config.patch))
        if told.features is not None:
            h = torch.cat([repeated(h, told.features.shape[2]), told.features], dim=3)
        h = self.first(h)
        crossings = []
        for level, stage in enumerate(self.down):
            h = stage(h if level == 0 else self.shrink[level - 1](h), next(shifts), layers, told)
            crossings.append(h)
        h = self.middle(h, next(shifts))
        for level in reversed(range(len(self.up))):
            h = torch.cat([h, repeated(crossings[level], h.shape[2])], dim=3)
            h = self.up[level](h, next(shifts), layers, told)
            h = shuffle(self.grow[level - 1](h), 2) if level else h
        h = repeated(self.last(F.silu(self.norm(h), inplace=True)), told.rows)
        return F.pixel_shuffle(pixels_last(h), self.config.patch).to(x.dtype)

    def at(self, t: float) -> list[Shifted]:
        """What noise level t makes of each block's second norm, in the order they are asked: its scale and shift, and time's,
        as one of each."""
        if (found := self.levels.get(t)) is not None:
            return found
        if len(self.levels) == LEVELS:
            self.levels.clear()
        time = self.time(time_embedding(torch.tensor([t]), self.config.channels[0]).float())
        moves = [block.time(time)[0].chunk(2) for block in self.blocks]
        norms = [(block.norm2.weight.detach(), block.norm2.bias.detach()) for block in self.blocks]
        found = [(w * (1 + scale), b * (1 + scale) + shift) for (w, b), (scale, shift) in zip(norms, moves)]
        self.levels[t] = found
        return found

    @torch.inference_mode()
    def tell(self, x: Tensor, condition: Condition) -> Told:
        """The condition, a row for each of x or two, made ready. Raises ValueError as the network itself does."""
        rows = max(len(x), len(condition))
        tokens, features = condition.tokens, condition.features
        self.check(x[:1].expand(rows, -1, -1, -1), x.new_empty(rows), tokens, features)
        if self.config.maps and features is None:
            features = x.new_zeros(len(x), self.config.map_features, *x.shape[2:])
        crosses = [stage.cross for stage in (*self.down, *reversed(self.up)) if stage.cross is not None]
        return Told(
            [cross.keys_values(tokens.float()) for cross in crosses],
            None if condition.mask is None or condition.mask.all() else condition.mask[:, None, None, :],
            None if features is None else pixels_first(features.float()),
            rows,
        )


class QuickStage:
    """`Stage`; the first one that looks at tokens makes as many rows of its picture as there are of them."""

    def __init__(self, stage: Stage, convolution: Callable) -> None:
        self.block = Block(stage.block, convolution)
        self.attention = None if isinstance(stage.attention, nn.Identity) else Attention(stage.attention)
        self.cross = None if stage.cross is None else Cross(stage.cross)

    def __call__(self, x: Tensor, shifted: Shifted, layers: Iterator[tuple[Tensor, Tensor]], told: Told) -> Tensor:
        x = self.block(x, shifted)
        x = x if self.attention is None else self.attention(x)
        return x if self.cross is None else self.cross(repeated(x, told.rows), *next(layers), told.mask)


def repeated(x: Tensor, rows: int) -> Tensor:
    """(H, W, n, C) -> (H, W, rows, C), the n items one or more times."""
    return x if x.shape[2] == rows else x.repeat(1, 1, rows // x.shape[2], 1)


class QuickAutoencoder(nn.Module):
    """`Autoencoder`, its means only: what sampling and encoding ask for."""

    latent_shape = Autoencoder.latent_shape  # asks for the config only

    def __init__(self, plain: Autoencoder, form: str) -> None:
        super().__init__()
        self.config, self.quantiser = plain.config, plain.quantiser
        self.shift, self.scale = plain.shift[:, None, None], plain.scale[:, None, None]
        self.encoder, self.decoder = (QuickSequence(part, form) for part in (plain.encoder, plain.decoder))

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> mean latents (B, c, H/f, W/f) of unit std."""
        self.latent_shape(images.shape)
        return (self.encoder(images.float())[:, : self.config.latent_channels] - self.shift) / self.scale

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, c, h, w) -> images (B, C, H, W)."""
        raw = latents.float() * self.scale + self.shift
        return self.decoder(raw if self.quantiser is None else self.quantiser(raw))


class QuickDiffAE(nn.Module):
    """`DiffAENetwork` with a quick denoiser of pictures."""

    def __init__(self, plain: DiffAENetwork, denoiser: QuickDenoiser) -> None:
        super().__init__()
        self.config, self.encoder, self.words, self.prior = plain.config, plain.encoder, plain.words, plain.prior
        self.denoiser = denoiser


class QuickSequence:
    """A chain of convolutions, residual blocks and shuffles: where pictures are small by `layers`, elsewhere as it was."""

    def __init__(self, chain: nn.Sequential, form: str) -> None:
        self.layers = [(layer, quick_layer(layer, form)) for layer in chain]

    def __call__(self, x: Tensor) -> Tensor:
        turned = False  # pixels first?
        for plain, quick in self.layers:
            small = max(x.shape[:2] if turned else x.shape[2:]) <= LARGEST
            if small != turned:
                x, turned = pixels_first(x) if small else pixels_last(x), small
            x = quick(x) if turned else plain(x)
        return pixels_last(x) if turned else x


def quick_layer(layer: nn.Module, form: str) -> Callable[[Tensor], Tensor]:
    convolution = make_convolution(form)
    if isinstance(layer, ResBlock):
        return Block(layer, convolution)
    if isinstance(layer, nn.PixelShuffle):
        return lambda x: shuffle(x, layer.upscale_factor)
    if isinstance(layer, nn.PixelUnshuffle):
        return lambda x: unshuffle(x, layer.downscale_factor)
    return Matrix(layer) if layer.kernel_size == (1, 1) else convolution(layer)


def has_quick_form(network: nn.Module, device: str = "cpu") -> bool:
    """A U-Net or an autoencoder of ours, in float32 on that kind of device, whose attention nobody watches."""
    return (
        type(network) in (UNet, Autoencoder)
        and all(weight.dtype == torch.float32 and weight.device.type == device for weight in network.parameters())
        and not any(getattr(layer, "watch", None) for layer in network.modules())
    )
