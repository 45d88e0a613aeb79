"""What a user would take instead: diffusers' pipelines around our networks, and networks of others as large as ours.

The adapters do nothing but call: a pipeline of diffusers on them computes the same pictures from the same weights, which
the tests check. A rival network of equal parameters (or of equal work) is one whose width was chosen so.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from diffusers import ConfigMixin, CycleDiffusionPipeline, DDIMScheduler, LDMPipeline, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.utils import logging
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from minidiff.generators import LatentDiffusion
from minidiff.schedule import Schedule

logging.set_verbosity_error()  # that our networks are none of its own it need not say

PREDICTS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


class OurUNet(ModelMixin, ConfigMixin):
    """Our network as diffusers calls one."""

    @register_to_config
    def __init__(self, in_channels: int, sample_size: int) -> None:
        super().__init__()

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any):
        t = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        return UNet2DOutput(self.net(sample, t, encoder_hidden_states))


class OurAutoencoder(ModelMixin, ConfigMixin):
    """Our autoencoder as diffusers calls one; its latents are scaled already."""

    @register_to_config
    def __init__(self, block_out_channels: tuple[int, ...], latent_channels: int, scaling_factor: float = 1.0) -> None:
        super().__init__()

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        mean = self.net.encode(x)
        return AutoencoderKLOutput(DiagonalGaussianDistribution(torch.cat([mean, torch.full_like(mean, -30)], dim=1)))

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        return DecoderOutput(self.net.decode(z)) if return_dict else (self.net.decode(z),)


class CycleDiffusion(CycleDiffusionPipeline):
    """diffusers' pipeline, told tokens in place of words: prompts are tensors (B, L, W) in `tokens`."""

    def encode_prompt(self, prompt: Any, device: Any, count: int, guided: bool, *_: Any, **__: Any):
        given, null = (self.tokens[name].expand(self.rows, -1, -1) for name in (prompt[0], "null"))
        return given, null if guided else None


def unet_of(model: LatentDiffusion, net: nn.Module | None = None) -> OurUNet:
    shell = OurUNet(model.latent_shape[0], model.latent_shape[1])
    shell.net = model.denoiser.net if net is None else net
    return shell.eval().to(model.device)


def autoencoder_of(model: LatentDiffusion) -> OurAutoencoder:
    halvings = (model.image_shape[1] // model.latent_shape[1]).bit_length() - 1
    shell = OurAutoencoder((1,) * (halvings + 1), model.latent_shape[0])
    shell.net = model.autoencoder
    return shell.eval().to(model.device)


def scheduler_of(schedule: Schedule, predicts: str, to_clean: bool = True) -> DDIMScheduler:
    """DDIM as ours walks: evenly from the noisiest level down to clean data (or to level 0), without cutting x0."""
    alphas = schedule.abar / torch.cat([torch.ones(1, dtype=torch.float64), schedule.abar[:-1]])
    return DDIMScheduler(
        num_train_timesteps=schedule.T,
        trained_betas=(1 - alphas).tolist(),
        prediction_type=PREDICTS[predicts],
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=to_clean,
        steps_offset=1,  # which trailing grids do not use, and CycleDiffusionPipeline asks for
    )


def sampler(model: LatentDiffusion, net: nn.Module | None = None) -> LDMPipeline:
    """diffusers' pipeline for latent diffusion around our networks, or around another one in place of our U-Net."""
    unet = net if isinstance(net, ModelMixin) else unet_of(model, net)
    scheduler = scheduler_of(model.denoiser.schedule, model.denoiser.predicts)
    return quiet(LDMPipeline(autoencoder_of(model), unet.to(model.device), scheduler))


def editor(model: LatentDiffusion, tokens: dict[str, Tensor]) -> CycleDiffusion:
    """diffusers' CycleDiffusion around our networks; `tokens` (1, L, W) of "source", "target" and "null"."""
    # its encoder divides by the noise of the last step, and would divide by zero on the way to clean data
    scheduler = scheduler_of(model.denoiser.schedule, "eps", to_clean=False)
    unet, vae = unet_of(model, AsNoise(model.denoiser)), autoencoder_of(model)
    absent = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = CycleDiffusion(vae=vae, unet=unet, scheduler=scheduler, requires_safety_checker=False, **absent)
    pipe.tokens, pipe.rows = tokens, 1
    return quiet(pipe)


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


class AsNoise(nn.Module):
    """A denoiser as a network that predicts the noise: diffusers' encoder takes every network for one of these."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return self.denoiser(x, t, tokens=tokens).eps


class Rival(NamedTuple):
    """A network that trains: `loss(x0, eps)` of clean latents and noise, (B, C, H, W) each, is a number."""

    net: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]


def diffusers_unet(width: int, channels: int, side: int) -> UNet2DModel:
    """Two levels with attention, like ours, in diffusers' blocks."""
    return UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(width, 2 * width),
        down_block_types=("AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=8,
    )


def equal_unet(model: LatentDiffusion) -> UNet2DModel:
    """diffusers' network of about as many parameters as the model's, untrained."""
    channels, side = model.latent_shape[:2]
    size = parameters(model.denoiser.net)
    width = closest(lambda width: parameters(diffusers_unet(width, channels, side)), size)
    return diffusers_unet(width, channels, side).eval().to(model.device)


class Answer(nn.Module):
    """A network of diffusers whose answer is the tensor itself."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t).sample


def diffusers_rival(width: int, channels: int, side: int) -> Rival:
    from diffusers import DDPMScheduler

    net, scheduler = diffusers_unet(width, channels, side), DDPMScheduler(prediction_type="v_prediction")

    def loss(x0: Tensor, eps: Tensor) -> Tensor:
        t = torch.randint(1000, (len(x0),), device=x0.device)
        output = net(scheduler.add_noise(x0, eps, t), t).sample
        return (output - scheduler.get_velocity(x0, eps, t)).square().mean()

    return Rival(net, loss)


def smalldiffusion_rival(width: int, channels: int, side: int) -> Rival:
    from smalldiffusion.model_unet import Unet

    size = {"ch": width, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (side, side // 2), "dropout": 0.0}
    net = Unet(side, channels, channels, **size)

    def loss(x0: Tensor, eps: Tensor) -> Tensor:
        return net.get_loss(x0, torch.rand(len(x0), 1, 1, 1, device=x0.device).exp(), eps)

    return Rival(net, loss)


def denoising_diffusion_rival(width: int, channels: int, side: int) -> Rival:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    net = Unet(dim=width, dim_mults=(1, 2), channels=channels)
    whole = GaussianDiffusion(net, image_size=side, timesteps=1000, objective="pred_v", auto_normalize=False)
    return Rival(whole, lambda x0, eps: whole(x0))


RIVALS: dict[str, tuple[Callable[[int, int, int], Rival], int]] = {  # and what a width is a multiple of
    "diffusers": (diffusers_rival, 8),
    "smalldiffusion": (smalldiffusion_rival, 32),
    "denoising-diffusion-pytorch": (denoising_diffusion_rival, 32),
}


def rivals(target: int, channels: int, side: int) -> Iterator[tuple[str, Rival]]:
    """Every rival that is installed, of about `target` parameters."""
    for name, (make, multiple) in RIVALS.items():
        try:
            yield name, equal_rival(make, multiple, target, channels, side)
        except ImportError:
            continue


def equal_rival(make: Callable[[int, int, int], Rival], multiple: int, target: int, channels: int, side: int) -> Rival:
    width = closest(lambda width: parameters(make(width, channels, side).net), target, multiple)
    return make(width, channels, side)


def closest(measure: Callable[[int], float], target: float, multiple: int = 8) -> int:
    """The width, a multiple of `multiple`, at which a measure that grows with it is the nearest to the target."""
    width = multiple
    while measure(width + multiple) < target:
        width += multiple
    return min((width, width + multiple), key=lambda width: abs(measure(width) - target))


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@torch.no_grad()
def flops(net: nn.Module, channels: int, side: int) -> int:
    """Floating point operations of one call for one item: two for each multiplication of a layer."""
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, channels, side, side), torch.zeros(1))
    return counter.get_total_flops()


def copy_of(net: nn.Module) -> nn.Module:
    """To train without changing the one that was given."""
    return copy.deepcopy(net).train().requires_grad_(True)
