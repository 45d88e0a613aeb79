"""Training a diffusion autoencoder: the denoiser with the encoder it listens to, and the prior of what the encoder says."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff import zoo
from minidiff.evaluation.metrics import psnr
from minidiff.families import DiffAE
from minidiff.nets.diffae import DiffAENetwork
from minidiff.seeds import normal
from minidiff.training.bank import Bank
from minidiff.training.latents import LatentRecipe, in_parts, random_levels


@dataclass(frozen=True, kw_only=True)
class DiffAERecipe(LatentRecipe):
    """The denoiser's loss (Preechakul et al., equation 6) and the prior's, whose gradient stops at the vectors: the encoder is
    not to make them easy to guess. The paper trains the prior afterwards; together they share every picture that is read.

    Noise levels are drawn as in `DenoiserRecipe`. Pictures are given back in figures for `reconstructed` of those held out.
    """

    t_mean: float = -1.0
    t_std: float = 1.2
    reconstructed: int = 50
    kind = "diffae"

    def network(self) -> DiffAENetwork:
        return DiffAENetwork(self.config)

    def loss(self, network: DiffAENetwork, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        return sum(self.terms(network, rows, seeds))

    def terms(self, network: DiffAENetwork, rows: Bank, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of the denoiser of pictures and of that of vectors, each (B,)."""
        x0 = self.clean(rows, seeds)
        z_sem = network.encoder(x0)
        vectors = z_sem.detach()[..., None, None]
        found = []
        for denoiser, x, stream, told in (
            (network.denoiser, x0, "noise", {"tokens": network.words(z_sem)}),
            (network.prior, vectors, "prior", {}),
        ):
            t = random_levels(seeds, denoiser.schedule.T, self.t_mean, self.t_std, f"{stream} t")
            found.append(denoiser.loss(x, normal(seeds, x.shape[1:], stream), t, **told))
        return found[0], found[1]

    @torch.no_grad()
    def figures(self, network: DiffAENetwork) -> dict[str, float]:
        pictures = self.held_out()
        rows = self.rows(pictures, range(len(pictures)))
        losses = [torch.stack(self.terms(network, *part)) for part in in_parts(rows)]
        loss, prior = torch.cat(losses, dim=1).mean(1).tolist()
        model = DiffAE(zoo.load(self.autoencoder), network, pictures.shape)
        images = pictures[: self.reconstructed]
        return {
            "held_out_loss": loss,
            "held_out_prior_loss": prior,
            "held_out_psnr_db": psnr(model.decode(model.encode(images)), images).mean().item(),
            "held_out_pictures": len(pictures),
        }
