"""Training an autoencoder: to give the picture back, with few bits in between."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff import zoo
from minidiff.nets.autoencoder import Autoencoder, kl
from minidiff.nets.discriminator import Discriminator
from minidiff.nets.perceptual import perceptual
from minidiff.nets.quantiser import Upkeep, entropy, perplexity, use
from minidiff.seeds import normal
from minidiff.training.bank import Bank, picture_bank, to_images
from minidiff.training.recipe import Recipe
from minidiff.training.workshop import Workshop, adversary


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe(Recipe):
    """L1 + 4 L2 between picture and reconstruction, and a little KL or the quantiser's loss; on request a perceptual
    and an adversarial term (Rombach et al., CVPR 2022, section 3.1).

    Every second item is also decoded from latents at half the resolution, which must give the picture at half the
    resolution: what is coarse in the picture is then coarse in the latents, where a denoiser learns it first
    (Skorokhodov et al., "Improving the Diffusability of Autoencoders", ICML 2025, section 4). Towards the end the full
    resolution alone counts, and after the first restart only the decoder learns: the latents are what they are.
    """

    kl_weight: float = 5e-2  # on nats per colour value: spends no latents on what changes the picture little
    coarse_weight: float = 0.25
    coarse_until: float = 1.0  # of the training
    quantiser_weight: float = 1.0  # as in latent diffusion's configs
    revive_after: int = 100  # steps for which a code was not used
    revive_until: float = 0.8  # of the training: the average of the weights could not follow a later move
    perceptual_weight: float = 0.0
    perceptual: str = ""  # the probe of the zoo whose features are compared
    adversary_weight: float = 0.0  # latent diffusion takes 0.5 with KL and 0.75 with VQ
    adversary_from: float = 0.5  # of the training: a discriminator has nothing to teach while all is blurred
    kind = "autoencoder"

    def __post_init__(self):
        super().__post_init__()
        for field in ("quantiser_weight", "perceptual_weight", "adversary_weight"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field}: expected 0 or more, got {getattr(self, field)}")
        for field in ("revive_until", "adversary_from"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}: expected a part of the training from 0 to 1, got {getattr(self, field)}")
        if self.perceptual_weight and not self.perceptual:
            raise ValueError("perceptual: expected the name of a probe of the zoo, as perceptual_weight is not 0")

    def network(self) -> Autoencoder | Workshop:
        config, autoencoder = self.config, Autoencoder(self.config)
        tools = {
            "probe": zoo.load(self.perceptual) if self.perceptual_weight else None,
            "discriminator": Discriminator(config.image_channels) if self.adversary_weight else None,
            "upkeep": Upkeep(config.codes, config.latent_channels, self.revive_after) if config.codes else None,
        }
        return Workshop(autoencoder, **tools) if any(tools.values()) else autoencoder

    def kept(self, network: nn.Module) -> Autoencoder:
        return network.autoencoder if isinstance(network, Workshop) else network

    def sources(self) -> dict[str, str]:
        return {"perceptual_sha256": zoo.describe(self.perceptual)["sha256"]} if self.perceptual_weight else {}

    def loss(self, network: nn.Module, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        autoencoder, images = self.kept(network), to_images(rows["images"])
        mean, logvar = autoencoder.posterior(images)
        latents = mean + (0.5 * logvar).exp() * normal(seeds, mean.shape[1:], "posterior")
        if self.restarts and part >= self.restarts[0] / self.steps:
            return self.fidelity(network, autoencoder.decode(latents.detach()), images, part)
        loss = self.fidelity(network, autoencoder.decode(latents), images, part)
        if self.config.bottleneck == "kl":
            loss = loss + self.kl_weight * kl(mean, logvar) / images[0].numel()
        else:
            loss = loss + self.quantiser_weight * self.quantised(network, mean, seeds, part)
        if part >= self.coarse_until:
            return loss
        half = seeds % 2 == 0
        coarse = distortion(autoencoder.decode(halve(latents[half])), halve(images[half]))
        loss[half] += 2 * self.coarse_weight * coarse
        return loss

    def fidelity(self, network: nn.Module, pictures: Tensor, images: Tensor, part: float) -> Tensor:
        """How far the reconstructions are from the pictures, (B,): to a ruler, to a probe, to a discriminator."""
        loss = distortion(pictures, images)
        if self.perceptual_weight:
            loss = loss + self.perceptual_weight * perceptual(network.probe.maps, pictures, images)
        if self.adversary_weight and part >= self.adversary_from:
            loss = loss + adversary(network, pictures, images, loss, self.adversary_weight)
        return loss

    def quantised(self, network: nn.Module, raw: Tensor, seeds: Tensor, part: float) -> Tensor:
        """The quantiser's loss, (B,). In training mode the codebook moves as well, as a batch norm's statistics do."""
        quantiser = self.kept(network).quantiser
        index = quantiser.nearest(raw)
        loss = quantiser.loss(raw, index)
        if network.training:
            network.upkeep(quantiser, raw, index, seeds[:1], part < self.revive_until)
        return loss

    def finish(self, network: nn.Module, bank: Bank) -> None:
        self.kept(network).fit_scale(to_images(part) for part in bank["images"][:10_000].split(250))

    @torch.no_grad()
    def figures(self, network: Autoencoder) -> dict[str, float]:
        images = to_images(picture_bank(self.held_out()))
        errors = [
            (network.decode(network.encode(part)).clamp(-1, 1) - part).square().flatten(1).mean(1)
            for part in images.split(250)
        ]
        psnr = 10 * (4 / torch.cat(errors)).log10()
        return {
            "held_out_psnr_db": psnr.mean().item(),
            "held_out_psnr_db_5_percent": psnr.quantile(0.05).item(),
            "held_out_pictures": len(images),
        } | (gaussian_figures if network.quantiser is None else codebook_figures)(network, images)


def gaussian_figures(network: Autoencoder, images: Tensor) -> dict[str, float]:
    """What the latents of "kl" tell: nats per picture, and the mean std of a posterior in unit-std latents."""
    nats, stds = [], []
    for part in images.split(250):
        mean, logvar = network.posterior(part)
        nats.append(kl(mean, logvar))
        stds.append((0.5 * logvar).exp().mean((0, 2, 3)) / network.scale)
    return {"kl_nats": torch.cat(nats).mean().item(), "posterior_std": torch.stack(stds).mean().item()}


def codebook_figures(network: Autoencoder, images: Tensor) -> dict[str, float]:
    """What the latents of "vq" tell: bits per picture, by plain and by fitted code, and how the codebook is used."""
    index = torch.cat([network.quantiser.nearest(network.posterior(part)[0]) for part in images.split(250)])
    counts = use(index, network.config.codes)
    return {
        "bits": network.bits(images).mean().item(),
        "entropy_bits": index[0].numel() * entropy(counts).item(),
        "codes_used": counts.count_nonzero().item(),
        "perplexity": perplexity(counts).item(),
    }


def distortion(pictures: Tensor, truth: Tensor) -> Tensor:
    """L1 + 4 L2 per item (B,): L1 keeps edges sharp, L2 is what PSNR counts."""
    error = pictures - truth
    return (error.abs() + 4 * error.square()).flatten(1).mean(1)


def halve(images: Tensor) -> Tensor:
    """Half the resolution: each value the mean of 2x2."""
    return F.avg_pool2d(images, 2)
