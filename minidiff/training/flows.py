"""Training a normalizing flow: maximum likelihood of the latents."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.nets.flow import FlowNetwork
from minidiff.training.bank import Bank
from minidiff.training.latents import LatentRecipe, in_parts


@dataclass(frozen=True, kw_only=True)
class FlowRecipe(LatentRecipe):
    """-log p per number of the latents. They are samples of the autoencoder's posterior, so there is a density to learn:
    its noise does for them what dequantisation does for bytes (Theis et al., ICLR 2016, section 3.1)."""

    kind = "flow"

    def network(self) -> FlowNetwork:
        return FlowNetwork(self.config)

    def loss(self, network: FlowNetwork, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        x0 = self.clean(rows, seeds)
        return network.nats(x0) / x0[0].numel()

    @torch.no_grad()
    def figures(self, network: FlowNetwork) -> dict[str, float]:
        pictures, nats, errors = self.held_out(), [], []
        for rows, seeds in in_parts(self.rows(pictures, range(len(pictures)))):
            nats.append(self.loss(network, rows, seeds))
            errors.append(network.inverse(network(rows["mean"])[0]) - rows["mean"])
        return {
            "held_out_nats_per_value": torch.cat(nats).mean().item(),
            "digits_of_inversion": -torch.cat(errors).abs().max().clamp(min=1e-12).log10().item(),
            "held_out_pictures": len(pictures),
        }
