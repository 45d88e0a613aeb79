"""What there is to train: autoencoders, denoisers and probes. A recipe is one frozen dataclass instance of one of these.

The loop knows nothing about the kinds: it asks a recipe for a network, a bank of data and a loss per item.
"""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff import schedule, zoo
from minidiff.data.pictures import Pictures
from minidiff.denoiser import Denoiser
from minidiff.evaluation.probes import probe_report, targets_of
from minidiff.nets.autoencoder import Autoencoder, kl
from minidiff.nets.discriminator import Discriminator
from minidiff.nets.perceptual import perceptual
from minidiff.nets.probe import Probe, augment
from minidiff.nets.quantiser import Upkeep, entropy, perplexity, use
from minidiff.nets.unet import UNet
from minidiff.seeds import normal
from minidiff.training.bank import Bank, Watch, latent_bank, picture_bank, to_images, unwatched
from minidiff.training.workshop import Workshop, adversary


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """Everything that decides a trained model. `pictures` and `held_out` are functions that open sets of pictures."""

    name: str
    config: Any
    pictures: partial
    held_out: partial
    seed: int
    steps: int
    batch: int
    lr: float  # the highest; reached after `warmup` steps, then a cosine down to 1 % of it
    warmup: int = 200
    restart: int = 0  # at this step the average takes the network's place and the lr rises once more (0: never) ...
    restart_lr: float = 0.0  # ... to this
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 0.999  # of the average of the weights
    clip: float = 1.0  # longest gradient
    log_every: int = 50
    checkpoint_every: int = 250
    licence: str = "CC BY 4.0"
    kind: ClassVar[str]

    def __post_init__(self):
        for field in ("steps", "batch", "log_every", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: expected at least 1, got {getattr(self, field)}")
        if not 0 <= self.restart < self.steps:
            raise ValueError(f"restart: expected a step from 1 to {self.steps - 1}, or 0 for never, got {self.restart}")

    @abstractmethod
    def network(self) -> nn.Module:
        """A new network. Its random start is the caller's business."""

    @abstractmethod
    def bank(self, watch: Watch = unwatched) -> Bank:
        """The training data, one row per picture."""

    @abstractmethod
    def loss(self, network: nn.Module, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        """Loss per item (B,) when `part` in [0, 1) of the training is over; all its randomness is from `seeds` (B,)."""

    @abstractmethod
    def figures(self, network: nn.Module) -> dict[str, float]:
        """What the finished network is worth on held-out pictures, for the manifest."""

    def wrap(self, network: nn.Module) -> nn.Module:
        """What the loss needs around the network that the zoo keeps."""
        return network

    def kept(self, network: nn.Module) -> nn.Module:
        """The part of a training network that is written when the training is over."""
        return network

    def sources(self) -> dict[str, str]:
        """Hashes of the zoo's models that this one is trained on. Raises ValueError when they are not there yet."""
        return {}

    def prepare(self, network: nn.Module, bank: Bank) -> None:  # noqa: B027  most have nothing to measure
        """What the network must measure on the data before training."""

    def finish(self, network: nn.Module, bank: Bank) -> None:  # noqa: B027
        """What the network must measure on the data after training."""

    def fields(self) -> dict[str, Any]:
        """The recipe as JSON-able data: a function becomes its name and arguments."""
        return {"kind": self.kind} | {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def completed(self, recorded: dict[str, Any]) -> dict[str, Any]:
        """The `fields` of a recipe as some version wrote them down; a field that came later has its default.

        So the default of a new field is whatever leaves older recipes as they were.
        """
        return defaults(self) | recorded | {"config": defaults(self.config) | recorded["config"]}


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe(Recipe):
    """L1 + 4 L2 between picture and reconstruction, and a little KL or the quantiser's loss; on request a perceptual
    and an adversarial term (Rombach et al., CVPR 2022, section 3.1).

    Every second item is also decoded from latents at half the resolution, which must give the picture at half the
    resolution: what is coarse in the picture is then coarse in the latents, where a denoiser learns it first
    (Skorokhodov et al., "Improving the Diffusability of Autoencoders", ICML 2025, section 4). Towards the end the full
    resolution alone counts, and after a restart only the decoder learns: the latents are what they are.
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

    def bank(self, watch: Watch = unwatched) -> Bank:
        return {"images": picture_bank(self.pictures(), watch)}

    def loss(self, network: nn.Module, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        autoencoder, images = self.kept(network), to_images(rows["images"])
        mean, logvar = autoencoder.posterior(images)
        latents = mean + (0.5 * logvar).exp() * normal(seeds, mean.shape[1:], "posterior")
        if self.restart and part >= self.restart / self.steps:
            return self.fidelity(network, autoencoder.decode(latents.detach()), images, part)
        loss = self.fidelity(network, autoencoder.decode(latents), images, part)
        if self.config.bottleneck == "kl":
            loss = loss + self.kl_weight * kl(mean, logvar) / images[0].numel()
        else:
            loss = loss + self.quantiser_weight * self.quantised(network, mean, seeds, part)
        if part >= self.coarse_until:
            return loss
        half = torch.arange(len(images), device=images.device) % 2 == 0
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


@dataclass(frozen=True, kw_only=True)
class DenoiserRecipe(Recipe):
    """Denoising in the latents of a frozen autoencoder of the zoo, or in pixels where `autoencoder` is None.

    The loss is that of Ho, Jain & Abbeel (NeurIPS 2020, equation 14), for whatever the network predicts.

    t / T = sigmoid(n) with n ~ N(t_mean, t_std^2) (Esser et al., ICML 2024, section 3.1): in the linear schedule half
    of a uniform t would be spent where the noise is ten times the signal and there is next to nothing to learn.
    """

    autoencoder: str | None
    t_mean: float = -1.0
    t_std: float = 1.2
    schedule: str = "linear"
    predicts: str = "v"
    kind = "denoiser"

    def network(self) -> Denoiser:
        return self.wrap(UNet(self.config))

    def wrap(self, net: UNet) -> Denoiser:
        return Denoiser(net, schedule.schedule(self.schedule), self.predicts)

    def sources(self) -> dict[str, str]:
        return {"autoencoder_sha256": zoo.describe(self.autoencoder)["sha256"]} if self.autoencoder else {}

    def bank(self, watch: Watch = unwatched) -> Bank:
        return self.rows(self.pictures(), watch)

    def rows(self, pictures: Pictures, watch: Watch = unwatched) -> Bank:
        """What the loss needs of each picture: its posterior in the latents, or, in pixels, itself."""
        images = picture_bank(pictures, watch)
        return latent_bank(zoo.load(self.autoencoder), images, watch) if self.autoencoder else {"images": images}

    def condition(self, network: Denoiser, rows: Bank, seeds: Tensor) -> dict[str, Tensor]:
        """What the network is told about each item, besides the noise level."""
        return {}

    def loss(self, network: Denoiser, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        t = torch.sigmoid(self.t_mean + self.t_std * normal(seeds, (), "t"))
        t = (t * network.schedule.T).long().clamp(max=network.schedule.T - 1)
        return self.loss_at(network, rows, seeds, t)

    def loss_at(self, network: Denoiser, rows: Bank, seeds: Tensor, t: Tensor) -> Tensor:
        if self.autoencoder:
            x0 = rows["mean"] + rows["std"] * normal(seeds, rows["mean"].shape[1:], "posterior")
        else:
            x0 = to_images(rows["images"])
        return network.loss(x0, normal(seeds, x0.shape[1:], "noise"), t, **self.condition(network, rows, seeds))

    @torch.no_grad()
    def figures(self, network: Denoiser) -> dict[str, float]:
        rows = self.rows(self.held_out())
        count, T = len(next(iter(rows.values()))), network.schedule.T
        t = (torch.arange(count) * T) // count  # every part of the noise axis alike
        losses = [
            self.loss_at(network, {name: row[part] for name, row in rows.items()}, part, t[part])
            for part in torch.arange(count).split(250)
        ]
        losses = torch.cat(losses)
        thirds = {
            f"held_out_loss_{name}": third.mean().item()
            for name, third in zip(("low_noise", "middle", "high_noise"), losses.tensor_split(3))
        }
        return {"held_out_loss": losses.mean().item()} | thirds | {"held_out_pictures": count}


@dataclass(frozen=True, kw_only=True)
class ProbeRecipe(Recipe):
    """Reading factors from pictures, blurred and noisy ones too (see `minidiff.nets.probe.augment`)."""

    kind = "probe"

    def network(self) -> Probe:
        return Probe(self.config)

    def bank(self, watch: Watch = unwatched) -> Bank:
        pictures = self.pictures()
        return {"images": picture_bank(pictures, watch)} | targets_of(pictures, torch.arange(len(pictures)))

    def prepare(self, network: Probe, bank: Bank) -> None:
        network.fit_scale(bank)

    def loss(self, network: Probe, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        return network.loss(augment(to_images(rows["images"]), seeds), rows)

    def figures(self, network: Probe) -> dict[str, float]:
        return probe_report(network, self.held_out())


def defaults(instance: Any) -> dict[str, Any]:
    """The default of each field of a dataclass that has one, as JSON-able data."""
    made = {f.name: f.default_factory() for f in dataclasses.fields(instance) if f.default_factory is not MISSING}
    given = {f.name: f.default for f in dataclasses.fields(instance) if f.default is not MISSING}
    return plain(made | given)


def plain(value: Any) -> Any:
    """Data that JSON can hold, readable by people."""
    if isinstance(value, partial):
        positional = {"arguments": plain(value.args)} if value.args else {}
        return {"function": value.func.__name__} | positional | plain(value.keywords)
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value.__name__ if callable(value) else value
