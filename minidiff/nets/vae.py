"""A variational autoencoder of whole pictures: a vector of standard normal numbers in, a picture out, and the way back.

Kingma & Welling, "Auto-encoding variational Bayes" (ICLR 2014). Unlike the autoencoder of latent diffusion it pays the full
price of its code, so codes drawn at random are good ones: as long as the decoder is not taken to be too exact. sigma, the
error it may make, is set, and weighs the two terms. Learned, it falls to the error itself (Rybkin, Daniilidis & Levine,
"Simple and effective VAE training with calibrated decoders", ICML 2021), and pictures are then told apart so finely that
most codes of the prior belong to none of them.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from minidiff.nets.autoencoder import kl
from minidiff.nets.pyramid import to_picture, to_vector
from minidiff.seeds import normal


@dataclass(frozen=True)
class VAEConfig:
    """Widths of the encoder from fine to coarse, the first at 1/4 of the resolution; of the decoder from coarse to fine,
    the last at 1/2. sigma is the std of p(image | code), in units of pictures in [-1, 1]."""

    image_channels: int = 3
    size: int = 64
    code: int = 128
    sigma: float = 0.5
    encoder: tuple[int, ...] = (64, 96, 160)
    decoder: tuple[int, ...] = (160, 96, 48, 16)


class VAENetwork(nn.Module):
    """images (B, C, size, size) -> q(code | image), and code (B, code) -> the mean of p(image | code)."""

    def __init__(self, config: VAEConfig = VAEConfig()):
        super().__init__()
        self.config = config
        self.encoder = to_vector(config.image_channels, config.size, 4, config.encoder, 2 * config.code)
        self.decoder = to_picture(config.code, config.image_channels, config.size, 2, config.decoder)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(code | image), each (B, code)."""
        mean, logvar = self.encoder(images).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def encode(self, images: Tensor, seeds: Tensor | None = None) -> Tensor:
        """(B, code): the posterior mean, or a sample of the posterior when `seeds` (B,) are given."""
        mean, logvar = self.posterior(images)
        return mean if seeds is None else sample(mean, logvar, seeds)

    def terms(self, images: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of -ELBO in nats, each (B,): -log p(image | code) for a code drawn from q, and KL(q | N(0, I)).

        -log p is that of a density: a decoder more exact than sigma = 0.24 has a negative one.
        """
        mean, logvar = self.posterior(images)
        error = images - self.decoder(sample(mean, logvar, seeds))
        sigma = self.config.sigma
        log_p = -0.5 * (error / sigma).square() - math.log(sigma * math.sqrt(2 * math.pi))
        return -log_p.flatten(1).sum(1), kl(mean, logvar)


def sample(mean: Tensor, logvar: Tensor, seeds: Tensor) -> Tensor:
    """mean + std * eps (Kingma & Welling, section 2.4): differentiable in both, item i from seed i."""
    return mean + (0.5 * logvar).exp() * normal(seeds, mean.shape[1:], "posterior", mean.dtype)
