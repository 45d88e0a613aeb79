"""Training a VAE of whole pictures: the evidence lower bound, nothing else."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.nets.vae import VAENetwork
from minidiff.training.bank import Bank, picture_bank, to_images
from minidiff.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class VAERecipe(Recipe):
    """-ELBO per colour value, so that the learning rate does not depend on the size of the pictures."""

    kind = "vae"

    def network(self) -> VAENetwork:
        return VAENetwork(self.config)

    def loss(self, network: VAENetwork, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        images = to_images(rows["images"])
        distortion, rate = network.terms(images, seeds)
        return (distortion + rate) / images[0].numel()

    @torch.no_grad()
    def figures(self, network: VAENetwork) -> dict[str, float]:
        found = []
        images = to_images(picture_bank(self.held_out()))
        for i in torch.arange(len(images)).split(250):
            distortion, rate = network.terms(images[i], i)
            error = (network.decoder(network.encode(images[i])).clamp(-1, 1) - images[i]).square().flatten(1).mean(1)
            found.append(torch.stack([(distortion + rate) / images[0].numel(), rate, 10 * (4 / error).log10()]))
        bound, rate, psnr = torch.cat(found, dim=1).mean(1).tolist()
        return {
            "held_out_nats_per_value": bound,
            "held_out_psnr_db": psnr,
            "kl_nats": rate,
            "held_out_pictures": len(images),
        }
