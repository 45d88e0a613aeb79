"""The other families of generators behind the one interface: what is the code, and what makes a picture of it?

All are deterministic maps from standard normal codes, as in the table of Wu & De la Torre, "A latent space of stochastic
diffusion models" (2023), section 3.1; diffusion itself is `minidiff.generators.LatentDiffusion`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from minidiff.denoiser import home_of
from minidiff.generators import InLatents, Shape, check_code, chunks
from minidiff.seeds import Seeds, as_seeds, normal


@dataclass(frozen=True)
class Family(InLatents):
    """What all of them share: a network between codes and latents, an autoencoder between these and images (C, H, W).

    Where the network makes pixels the autoencoder is `Identity`. A family says what its code is (`code_shape`), what it
    becomes (`decode_latents`) and, where there is a way back, `encode`.
    """

    autoencoder: nn.Module
    network: nn.Module
    image_shape: Shape

    @property
    def calls(self) -> int:
        """How often the network is asked on the way from a code to an image."""
        return 1

    @property
    def device(self) -> torch.device:
        return home_of(self.network, torch.empty(0)).device

    def decode(self, code: Tensor) -> Tensor:
        """code (B, *code_shape) -> images (B, C, H, W), not clamped, in the code's dtype; differentiable.

        Raises ValueError for a code of another shape.
        """
        check_code(code, self.code_shape)
        return super().decode(code)

    def random_code(self, count: int, seeds: Seeds = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """(count, *code_shape), standard normal; item i depends on seed i alone."""
        return normal(as_seeds(seeds, count, self.device), self.code_shape, "code", dtype)

    @torch.no_grad()
    def sample(self, count: int = 1, seeds: Seeds = 0, batch: int = 64) -> Tensor:
        """`count` new images (count, C, H, W); `batch` bounds the memory only. Raises ValueError for a count below 1."""
        if count < 1:
            raise ValueError(f"count: expected at least 1, got {count}")
        seeds = as_seeds(seeds, count, self.device)
        return torch.cat([self.decode(self.random_code(len(seeds[i]), seeds[i])) for i in chunks(count, batch)])

    def replace(self, **settings: Any) -> Self:
        """The same networks with other settings."""
        return dataclasses.replace(self, **settings)

    def to(self, device: torch.device | str) -> Self:
        """Move the networks to a device, in place."""
        self.autoencoder.to(device)
        self.network.to(device)
        return self


@dataclass(frozen=True)
class VAE(Family):
    """z (D,) -> decoder(z): the mean of p(image | z). Encoding is not exact: the manifest says by how many dB."""

    @property
    def code_shape(self) -> tuple[int, ...]:
        return (self.network.config.code,)

    def decode_latents(self, code: Tensor) -> Tensor:
        return self.network.decoder(in_dtype_of(self.network, code)).to(code.dtype)

    @torch.no_grad()
    def encode(self, images: Tensor, seeds: Seeds | None = None) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> the mean of q(z | image), or a sample of it when seeds are given; (B, D)."""
        latents = self.to_latents(images)
        seeds = None if seeds is None else as_seeds(seeds, len(images), images.device)
        return self.network.encode(in_dtype_of(self.network, latents), seeds).to(images.dtype)


def in_dtype_of(network: nn.Module, x: Tensor) -> Tensor:
    """x as the network computes: results are cast back, so that codes and images keep their own dtype."""
    return x.to(home_of(network, x).dtype)


FAMILIES = {"vae": VAE}  # by their kind in the zoo
