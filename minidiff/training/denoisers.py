"""Training a denoiser: to see the clean latents, or pixels, behind the noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff import schedule
from minidiff.denoiser import Denoiser
from minidiff.nets.unet import UNet
from minidiff.seeds import normal
from minidiff.training.bank import Bank
from minidiff.training.latents import LatentRecipe, in_parts, random_levels


@dataclass(frozen=True, kw_only=True)
class DenoiserRecipe(LatentRecipe):
    """Denoising in the latents of a frozen autoencoder of the zoo, or in pixels where `autoencoder` is None.

    The loss is that of Ho, Jain & Abbeel (NeurIPS 2020, equation 14), for whatever the network predicts.

    t / T = sigmoid(n) with n ~ N(t_mean, t_std^2) (Esser et al., ICML 2024, section 3.1): in the linear schedule half
    of a uniform t would be spent where the noise is ten times the signal and there is next to nothing to learn.
    """

    t_mean: float = -1.0
    t_std: float = 1.2
    schedule: str = "linear"
    predicts: str = "v"
    kind = "denoiser"

    def network(self) -> Denoiser:
        return self.wrap(UNet(self.config))

    def wrap(self, net: UNet) -> Denoiser:
        return Denoiser(net, schedule.schedule(self.schedule), self.predicts)

    def condition(self, network: Denoiser, rows: Bank, seeds: Tensor) -> dict[str, Tensor]:
        """What the network is told about each item, besides the noise level."""
        return {}

    def loss(self, network: Denoiser, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        t = random_levels(seeds, network.schedule.T, self.t_mean, self.t_std)
        return self.loss_at(network, rows, seeds, t)

    def loss_at(self, network: Denoiser, rows: Bank, seeds: Tensor, t: Tensor) -> Tensor:
        x0 = self.clean(rows, seeds)
        return network.loss(x0, normal(seeds, x0.shape[1:], "noise"), t, **self.condition(network, rows, seeds))

    @torch.no_grad()
    def figures(self, network: Denoiser) -> dict[str, float]:
        pictures = self.held_out()
        rows = self.rows(pictures, range(len(pictures)))
        count, T = len(pictures), network.schedule.T
        t = (torch.arange(count) * T) // count  # every part of the noise axis alike
        losses = torch.cat([self.loss_at(network, rows, part, t[part]) for rows, part in in_parts(rows)])
        thirds = {
            f"held_out_loss_{name}": third.mean().item()
            for name, third in zip(("low_noise", "middle", "high_noise"), losses.tensor_split(3))
        }
        return {"held_out_loss": losses.mean().item()} | thirds | {"held_out_pictures": count}
