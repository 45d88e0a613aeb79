"""Training GANs, of latents, pictures or denoising steps: generator and critic are one module for the one optimizer."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minidiff import zoo
from minidiff.data.pictures import Pictures
from minidiff.denoiser import Prediction
from minidiff.evaluation.metrics import frechet_distance
from minidiff.families import DDGAN, GAN, Family
from minidiff.generators import Identity
from minidiff.nets.critic import Critic, duel
from minidiff.nets.ddgan import DDGANNetwork
from minidiff.nets.gan import GANNetwork
from minidiff.samplers import DDPM, Grid
from minidiff.schedule import Schedule
from minidiff.seeds import normal, uniform
from minidiff.training.bank import Bank, picture_bank, to_images
from minidiff.training.latents import LatentRecipe
from minidiff.training.recipe import Recipe

# No momentum and no clipping: a player follows the other as he is now, by Adam's measure of each slope (R3GAN, appendix).
GAME = {"lr": 5e-4, "betas": (0.0, 0.99), "weight_decay": 0.0, "clip": 1e3, "judge": "critters-probe"}


class Players(nn.Module):
    """Who makes, and who judges; the zoo keeps the first."""

    def __init__(self, generator: nn.Module, critic: Critic):
        super().__init__()
        self.generator, self.critic = generator, critic


@dataclass(frozen=True, kw_only=True)
class Game(Recipe):
    """What the recipes with a critic have in common. gamma: how much its slope costs at first, ten times what it costs at the
    end; critic: its widths; judge: the probe of the zoo whose features measure how near samples come to held-out pictures."""

    gamma: float
    critic: tuple[int, ...]
    judge: str

    def kept(self, network: nn.Module) -> nn.Module:
        return network.generator

    def gamma_at(self, part: float) -> float:
        """It falls as in R3GAN's own settings: a gentle critic while all is new, an exact one in the end."""
        return self.gamma * 0.1**part

    @torch.no_grad()
    def figures(self, network: nn.Module) -> dict[str, float]:
        pictures, probe = self.held_out(), zoo.load(self.judge)
        made = self.family(network, pictures).sample(len(pictures), seeds=0)
        features = [
            torch.cat([probe.features(part.clamp(-1, 1)) for part in images.split(250)])
            for images in (made, to_images(picture_bank(pictures)))
        ]
        return {"held_out_frechet_distance": frechet_distance(*features), "held_out_pictures": len(pictures)}


@dataclass(frozen=True, kw_only=True)
class GANRecipe(Game, LatentRecipe):
    """True against made, in latents or pixels, by the rules of `minidiff.nets.critic.duel`."""

    kind = "gan"

    def network(self) -> Players:
        critic = Critic(self.config.channels, self.config.size, self.config.patch, self.critic)
        return Players(GANNetwork(self.config), critic)

    def loss(self, network: Players, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        made = network.generator(normal(seeds, (self.config.code,), "code"))
        return sum(duel(network.critic, self.clean(rows, seeds), made, self.gamma_at(part)))

    def finish(self, network: Players, bank: Bank) -> None:
        network.generator.fit_center()

    def family(self, network: GANNetwork, pictures: Pictures) -> Family:
        return GAN(zoo.load(self.autoencoder) if self.autoencoder else Identity(), network, pictures.shape)


@dataclass(frozen=True, kw_only=True)
class DDGANRecipe(Game, LatentRecipe):
    """Each item takes one of the steps of the grid, from x_t of its own picture: is x_s what that picture gives, or what a
    drawn x0 gives? Both by the true posterior q(x_s | x_t, x0), and the critic knows x_t (Xiao et al., section 3.2).

    Until the first restart there is no game: the network learns the mean x0 as any denoiser does, and then plays with faces
    instead of blots. `anchor` is what an error in x0 costs it from there on (UFOGen does both; Xu et al., CVPR 2024). `haste`:
    how many times as fast as the network its critic learns, who would else be fooled before it has seen anything: all that
    it must tell apart is hidden in noise.
    """

    kind = "ddgan"
    anchor: float = 0.0
    haste: float = 1.0

    def network(self) -> Players:
        c, side, _ = zoo.load(self.autoencoder).latent_shape(self.pictures().shape)
        critic = Critic(2 * c, side, 1, self.critic, time=self.config.time)
        return Players(DDGANNetwork(self.config), critic)

    def loss(self, network: Players, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        x0, grid, noise = self.clean(rows, seeds), network.generator.grid, network.generator.schedule
        index = (uniform(seeds, stream="step") * len(grid)).long().clamp(max=len(grid) - 1)
        t = torch.tensor([step.t for step in grid], device=x0.device)[index]
        x_t = noise.add_noise(x0, normal(seeds, x0.shape[1:], "noise"), t)
        to_x0, to_x_t, std = posteriors(noise, grid).to(x0)[index].T[..., None, None, None]  # (B, 1, 1, 1) each

        def land(x0: Tensor, stream: str) -> Tensor:
            return to_x0 * x0 + to_x_t * x_t + std * normal(seeds, x0.shape[1:], stream)

        drawn = network.generator(x_t, t, normal(seeds, (self.config.code,), "code"))
        error = (drawn - x0).square().flatten(1).mean(1)
        begin = self.restarts[0] / self.steps if self.restarts else 0.0
        if part < begin:
            return error
        gamma = self.gamma_at((part - begin) / (1 - begin))
        return sum(duel(network.critic, land(x0, "real"), land(drawn, "made"), gamma, x_t, t)) + self.anchor * error

    def groups(self, network: Players) -> list[dict[str, Any]]:
        players = (network.generator, 1.0), (network.critic, self.haste)
        return [{"params": list(player.parameters()), "pace": pace} for player, pace in players]

    def family(self, network: DDGANNetwork, pictures: Pictures) -> Family:
        return DDGAN(zoo.load(self.autoencoder), network, pictures.shape)


def posteriors(schedule: Schedule, grid: Grid) -> Tensor:
    """q(x_s | x_t, x0) = N(a x0 + b x_t, std^2) for each step of a grid: (steps, 3) of a, b, std, in float64."""
    sampler, rows = DDPM(schedule), []
    for step in grid:
        a, std = sampler.transition(0.0, Prediction(1.0, 0.0), step)
        b, _ = sampler.transition(1.0, Prediction(0.0, 0.0), step)
        rows.append((a, b, std))
    return torch.tensor(rows, dtype=torch.float64)
