"""The other families of generators behind the one interface: what is the code, and what makes a picture of it?

    family   code, standard normal       picture                                         the way back
    VAE      z                           decoder(z)                                      mean of q(z | x), not exact
    Flow     z, as large as the latents  f^-1(z)                                         f, exact
    GAN      z                           synthesis(mapping(z))                           search
    DDGAN    x_T, z_T, eps_T, ..., z_1   x_s from q(x_s | x_t, x0 drawn by z_t), by eps  none
    DiffAE   z_T, x_T                    ODE of x_T, told the z_sem that z_T's ODE gives  both ODEs, nearly exact

This is the table of Wu & De la Torre, "A latent space of stochastic diffusion models" (2023), section 3.1, without its first
rows: diffusion itself is `minidiff.generators.LatentDiffusion`, and `minidiff.reversible` walks its ODE exactly both ways.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from minidiff.classifier_free import Guided
from minidiff.conditioning import Condition
from minidiff.denoiser import Denoiser, home_of
from minidiff.generators import (
    Fast,
    Identity,
    InLatents,
    LatentDiffusion,
    Shape,
    check_images,
    in_batches,
    new_images,
)
from minidiff.projection import project
from minidiff.samplers import DDPM, Grid, draw
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

    def random_code(self, count: int, seeds: Seeds = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """(count, *code_shape), standard normal; item i depends on seed i alone."""
        return normal(as_seeds(seeds, count, self.device), self.code_shape, "code", dtype)

    @torch.no_grad()
    def sample(self, count: int = 1, seeds: Seeds = 0, batch: int = 64, fast: Fast = False) -> Tensor:
        """`count` new images (count, C, H, W); `batch` bounds the memory only. Raises ValueError for a count below 1.

        `fast` makes what it can quick: the autoencoder's decoder, and the denoiser of a `DiffAE`.
        """
        if count < 1:
            raise ValueError(f"count: expected at least 1, got {count}")
        seeds = as_seeds(seeds, count, self.device)
        return in_batches(partial(new_images), [self], [seeds], batch, fast)

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


@dataclass(frozen=True)
class Flow(Family):
    """z, one block as large as the latents -> f^-1(z). Encoding is exact: in the latents, up to rounding.

    `network.nats` is -log p of latents. Glow draws its samples at less than full temperature: `decode(0.7 * code)`.
    """

    @property
    def code_shape(self) -> tuple[int, ...]:
        return (1, *self.latent_shape)

    def decode_latents(self, code: Tensor) -> Tensor:
        return self.network.inverse(in_dtype_of(self.network, code[:, 0])).to(code.dtype)

    def encode(self, images: Tensor, seeds: Seeds = 0) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> code (B, 1, c, h, w); nothing is drawn, so the seeds do not matter."""
        return self.encode_latents(self.to_latents(images))

    @torch.no_grad()
    def encode_latents(self, latents: Tensor) -> Tensor:
        """latents (B, c, h, w) -> code (B, 1, c, h, w) with decode_latents(code) == latents."""
        code, _ = self.network(in_dtype_of(self.network, latents))
        return code[:, None].to(latents.dtype)


@dataclass(frozen=True)
class GAN(Family):
    """z (D,) -> synthesis(center + psi (mapping(z) - center)). psi in [0, 1] is the truncation: 1 draws all that it can, 0 the
    average picture again and again. Raises ValueError for another psi."""

    psi: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.psi <= 1:
            raise ValueError(f"psi: expected a number in [0, 1], got {self.psi}")

    @property
    def code_shape(self) -> tuple[int, ...]:
        return (self.network.config.code,)

    def decode_latents(self, code: Tensor) -> Tensor:
        return self.network(in_dtype_of(self.network, code), self.psi).to(code.dtype)

    def encode(self, images: Tensor, seeds: Seeds = 0, steps: int = 200) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> the likeliest code (B, D), by search: see `projection.project`.

        A GAN has no way back. This costs as much as making 3 * steps pictures for each one encoded, and what the generator
        cannot draw it does not find. Nothing is drawn, so the seeds do not matter.
        """
        check_images(images, self.image_shape)
        *_, last = project(self, images, steps)
        return last.code


@dataclass(frozen=True)
class DDGAN(Family):
    """x_T, z_T, eps_T, z_T-1, ..., z_1, one after the other (D,) -> x0: at each step the network draws an x0 by z, and the true
    posterior q(x_s | x_t, x0) goes on from there by eps. The last step lands on x0 and needs none.

    There is no `encode`: eps could be solved for as in DPM-Encoder, but not at the last step. `projection.project` searches.
    """

    @property
    def sizes(self) -> list[int]:
        """How long the parts of a code are."""
        z, x = self.network.config.code, math.prod(self.latent_shape)
        return [x, *[z, x] * (self.calls - 1), z]

    @property
    def code_shape(self) -> tuple[int, ...]:
        return (sum(self.sizes),)

    @property
    def calls(self) -> int:
        return self.network.config.steps

    def decode_latents(self, code: Tensor) -> Tensor:
        denoiser, sampler = Denoiser(self.network, self.network.schedule, "x0"), DDPM(self.network.schedule)
        x, *rest = code.split(self.sizes, dim=1)
        x = x.unflatten(1, self.latent_shape)
        for step, z, eps in zip(self.network.grid, rest[::2], [*rest[1::2], None], strict=True):
            mean, std = sampler.transition(x, denoiser(x, step.t, z=z), step)
            x = mean if eps is None else draw(mean, std, eps.view_as(mean))
        return x


@dataclass(frozen=True)
class DiffAE(Family):
    """z_T, x_T, one after the other (D,) -> z_sem, by the ODE of a small diffusion model of vectors, then x_T -> x0 by the ODE
    of one of pictures that is told z_sem. So z_sem, which has a distribution of its own, comes from a standard normal z_T.

    Both ODEs run backwards, which `encode` does: not exactly, but ever nearer with more steps. `steps` are those of each.
    """

    steps: int = 50
    eta: ClassVar[float] = 0.0
    strength: ClassVar[float] = 1.0

    @property
    def code_shape(self) -> tuple[int, ...]:
        return (self.network.config.semantic + math.prod(self.latent_shape),)

    @property
    def calls(self) -> int:
        return 2 * self.steps

    @property
    def grid(self) -> Grid:
        return self.vectors.grid

    @cached_property
    def vectors(self) -> LatentDiffusion:
        """The diffusion of z_sem (D, 1, 1), without an autoencoder."""
        shape = (self.network.config.semantic, 1, 1)
        return LatentDiffusion(Identity(bound=None), self.network.prior, shape, self.steps, eta=0.0)

    def pictures(self, z_sem: Tensor) -> LatentDiffusion:
        """The diffusion of pictures that are to look as z_sem (B, D, 1, 1) says."""
        tokens = self.network.words(in_dtype_of(self.network, z_sem.flatten(1)))
        told = Guided(self.network.denoiser, Condition(tokens))
        return LatentDiffusion(self.autoencoder, told, self.image_shape, self.steps, eta=0.0)

    def decode_latents(self, code: Tensor) -> Tensor:
        z_T, x_T = code.split([self.network.config.semantic, math.prod(self.latent_shape)], dim=1)
        z_sem = self.vectors.decode(z_T[:, None, :, None, None])
        return self.pictures(z_sem).decode_latents(x_T.unflatten(1, (1, *self.latent_shape)))

    def encode(self, images: Tensor, seeds: Seeds = 0) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> code (B, D); nothing is drawn, so the seeds do not matter."""
        return self.encode_latents(self.to_latents(images))

    @torch.no_grad()
    def encode_latents(self, latents: Tensor) -> Tensor:
        """latents (B, c, h, w) -> code (B, D). x_T is found for the z_sem that z_T will give, not quite the encoder's."""
        z_sem = self.network.encoder(in_dtype_of(self.network, latents)).to(latents.dtype)
        z_T = self.vectors.encode(z_sem[..., None, None])
        x_T = self.pictures(self.vectors.decode(z_T)).encode_latents(latents)
        return torch.cat([z_T.flatten(1), x_T.flatten(1)], dim=1)


def in_dtype_of(network: nn.Module, x: Tensor) -> Tensor:
    """x as the network computes: results are cast back, so that codes and images keep their own dtype."""
    return x.to(home_of(network, x).dtype)


FAMILIES = {"vae": VAE, "flow": Flow, "gan": GAN, "ddgan": DDGAN, "diffae": DiffAE}  # by their kind in the zoo
