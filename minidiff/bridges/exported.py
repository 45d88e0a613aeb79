"""minidiff's networks in the clothes of diffusers: an autoencoder, a U-Net, a text encoder and the pipeline around them.

Weights and settings lie in the folder as diffusers wants them, the code that runs them is minidiff's own.
"""

import dataclasses
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import ConfigMixin, DDIMScheduler, DiffusionPipeline, ImagePipelineOutput, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from minidiff.bridges.schedulers import PREDICTS, check_prediction, trained_betas
from minidiff.classifier_free import guide
from minidiff.conditioning import Condition, condition
from minidiff.denoiser import Denoiser
from minidiff.files import write_whole
from minidiff.generators import Identity, LatentDiffusion
from minidiff.nets.autoencoder import Autoencoder
from minidiff.nets.clip import Clip
from minidiff.nets.unet import UNet
from minidiff.samplers import DDIM
from minidiff.schedule import Schedule
from minidiff.seeds import Seeds, as_seeds, normal
from minidiff.zoo import network_of

LOADER = ["pipeline", "MinidiffPipeline"]  # the file in the folder, without ".py", and the class that it brings
CODE = '''"""A model of minidiff as a diffusers pipeline. The code is minidiff's, which must be installed."""

from minidiff.bridges.exported import MinidiffPipeline

__all__ = ["MinidiffPipeline"]
'''
WORDS = {ours: theirs for theirs, ours in PREDICTS.items()}
HUB = ("cache_dir", "local_files_only", "token", "revision", "proxies", "force_download")  # where to find a file


class MinidiffUNet(ModelMixin, ConfigMixin):
    """(sample (B, C, H, W), timestep) -> what `predicts` says; `network` is a UNetConfig, sample_size (H, W)."""

    @register_to_config
    def __init__(self, network: dict[str, Any], predicts: str, sample_size: Sequence[int]) -> None:
        super().__init__()
        self.net = network_of("denoiser", network)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        features: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        t = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        output = self.net(sample, t, encoder_hidden_states, encoder_attention_mask, features)
        return UNet2DOutput(output) if return_dict else (output,)


class MinidiffAutoencoder(ModelMixin, ConfigMixin):
    """images <-> latents of unit std, so scaling_factor is 1; `network` is an AutoencoderConfig."""

    @register_to_config
    def __init__(self, network: dict[str, Any], scaling_factor: float = 1.0) -> None:
        super().__init__()
        self.net = network_of("autoencoder", network)

    @apply_forward_hook  # so that offloaded weights come in
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        mean, logvar = self.net.posterior(x)
        shift, scale = self.net.shift[:, None, None], self.net.scale[:, None, None]
        found = DiagonalGaussianDistribution(torch.cat([(mean - shift) / scale, logvar - 2 * scale.log()], dim=1))
        return AutoencoderKLOutput(found) if return_dict else (found,)

    @apply_forward_hook
    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        images = self.net.decode(z)
        return DecoderOutput(images) if return_dict else (images,)


class MinidiffTextEncoder(ModelMixin, ConfigMixin):
    """The CLIP that reads captions, with its tokenizer; `network` is a ClipConfig."""

    @register_to_config
    def __init__(self, network: dict[str, Any]) -> None:
        super().__init__()
        self.net = network_of("clip", network)

    @apply_forward_hook
    def text_tokens(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """captions -> hidden states (B, L, W) and mask (B, L)."""
        return self.net.text_tokens(captions)


class MinidiffPipeline(DiffusionPipeline):
    """A latent diffusion of minidiff, sampled by a scheduler of diffusers: DDIM with the model's own noise levels.

    Any other scheduler made `from_config` of it will do; one that reads the network's output otherwise is refused.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components = ["vae", "text_encoder"]

    def __init__(
        self,
        unet: MinidiffUNet,
        scheduler: DDIMScheduler,
        vae: MinidiffAutoencoder | None = None,
        text_encoder: MinidiffTextEncoder | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, vae=vae, text_encoder=text_encoder)
        scheduler.alphas_cumprod = self.schedule.abar  # theirs are products in float32
        self.image_processor = VaeImageProcessor(vae_scale_factor=1, do_resize=False)

    @classmethod
    def of(cls, model: LatentDiffusion) -> Self:
        """A pipeline of the networks of a LatentDiffusion, which are not copied.

        Raises ValueError for networks, predictions, samplers or spacings that a folder of diffusers cannot say.
        """
        if type(model) is not LatentDiffusion:
            raise ValueError(f"model: expected a LatentDiffusion, got a {type(model).__name__}")
        denoiser = model.denoiser
        net = denoiser.net if isinstance(denoiser, Denoiser) else None
        if not isinstance(net, UNet) or type(model.autoencoder) not in (Autoencoder, Identity):
            raise ValueError(
                "model: expected an Autoencoder (or none) and a Denoiser with a UNet, not told anything, "
                f"got {type(model.autoencoder).__name__} and {type(denoiser).__name__}"
            )
        if denoiser.predicts not in WORDS:
            raise ValueError(
                f"model: diffusers' DDIM reads {', '.join(WORDS)}, this model predicts {denoiser.predicts!r}"
            )
        if type(model.sampler) is not DDIM or model.spacing != "trailing":
            raise ValueError(
                "model: expected sampler 'ddim' and spacing 'trailing', "
                f"got {type(model.sampler).__name__} and {model.spacing!r}"
            )
        text = model.text() if net.config.context and model.text else None
        if text is not None and not isinstance(text, Clip):
            raise ValueError(f"model: expected captions to be read by a Clip of minidiff, got a {type(text).__name__}")
        scheduler = DDIMScheduler(
            num_train_timesteps=denoiser.schedule.T,
            trained_betas=trained_betas(denoiser.schedule),
            prediction_type=WORDS[denoiser.predicts],
            timestep_spacing="trailing",
            clip_sample=False,
        )
        return cls(
            wrap(MinidiffUNet, net, predicts=denoiser.predicts, sample_size=model.latent_shape[1:]),
            scheduler,
            wrap(MinidiffAutoencoder, model.autoencoder) if isinstance(model.autoencoder, Autoencoder) else None,
            wrap(MinidiffTextEncoder, text) if text is not None else None,
        )

    @property
    def schedule(self) -> Schedule:
        """The noise levels of the scheduler in the folder, in float64."""
        betas = self.scheduler.config.get("trained_betas")
        if betas is None:
            raise ValueError("scheduler: expected the noise levels that lie in the folder, as trained_betas, got none")
        betas = torch.tensor(betas, dtype=torch.float64)
        return Schedule("exported", torch.cumprod(1 - betas, dim=0))

    def as_latent_diffusion(self) -> LatentDiffusion:
        """The way back: minidiff's own model of these networks."""
        autoencoder = Identity() if self.vae is None else self.vae.net
        channels, size = self.unet.net.config.in_channels, self.unet.config.sample_size
        shape = (channels, *size)
        if self.vae is not None:
            shape = (autoencoder.config.image_channels, *(autoencoder.config.factor * side for side in size))
        text = None if self.text_encoder is None else lambda: self.text_encoder.net
        denoiser = Denoiser(self.unet.net, self.schedule, self.unet.config.predicts)
        return LatentDiffusion(autoencoder, denoiser.eval(), shape, text=text)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
        negative_prompt: str | Sequence[str] = "",
        eta: float = 0.1,
        seeds: Seeds = 0,
        label: int | Sequence[int] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """`batch_size` pictures, or one for each prompt; picture i depends on its seed alone (`as_seeds`).

        output_type is "pil", "np", "pt" (both in [0, 1]) or "latent". Raises ValueError for a prompt or label that the
        network was not made for, a scheduler that reads its output otherwise, or steps that DDIM cannot walk evenly.
        """
        self.check(num_inference_steps)
        text = None if self.text_encoder is None else lambda: self.text_encoder
        given = condition(self.unet.net, text, prompt, label)
        count = len(given) if len(given) > 1 else batch_size
        told = [given.repeat(count)]
        if guidance_scale != 1:
            told.append(condition(self.unet.net, text, negative_prompt).repeat(count))
        seeds = as_seeds(seeds, count, self._execution_device)
        shape = (self.unet.net.config.in_channels, *self.unet.config.sample_size)

        self.scheduler.set_timesteps(num_inference_steps, device=seeds.device)
        x = normal(seeds, shape, "code 0") * self.scheduler.init_noise_sigma
        generator = torch.Generator().manual_seed(int(seeds[0]))  # of schedulers that take no noise of ours
        for k, t in enumerate(self.progress_bar(self.scheduler.timesteps), 1):
            noisy = self.scheduler.scale_model_input(x, t)
            outputs = [self.output(noisy, t, each) for each in told]
            output = outputs[0] if len(outputs) == 1 else guide(*outputs, guidance_scale)
            chance = {"eta": eta, "variance_noise": normal(seeds, shape, f"code {k}"), "generator": generator}
            x = self.scheduler.step(output, t, x, **self.taken(chance)).prev_sample
        if output_type != "latent":
            x = x if self.vae is None else self.vae.decode(x.to(self.vae.dtype)).sample
            x = self.image_processor.postprocess(x.float(), output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(x) if return_dict else (x,)

    def check(self, steps: int) -> None:
        """Raise ValueError for a scheduler that is not of this model, or steps that DDIM cannot walk evenly."""
        check_prediction(self.scheduler, self.unet.config.predicts)
        T = self.schedule.T
        if isinstance(self.scheduler, DDIMScheduler) and T % steps:
            raise ValueError(
                f"num_inference_steps: diffusers' DDIM goes down by whole levels: expected a divisor of {T}, got {steps}"
            )

    def output(self, x: Tensor, t: Tensor, given: Condition) -> Tensor:
        """What the network says of x, told `given`, in the dtype of x."""
        dtype = self.unet.dtype
        tokens = None if given.tokens is None else given.tokens.to(dtype)
        return self.unet(x.to(dtype), t, tokens, given.mask).sample.to(x.dtype)

    def taken(self, chance: dict[str, Any]) -> dict[str, Any]:
        """Of the ways to be random, those that the scheduler's step takes; it wants the noise itself or a generator."""
        takes = inspect.signature(self.scheduler.step).parameters
        refused = "generator" if "variance_noise" in takes else "variance_noise"
        return {name: value for name, value in chance.items() if name in takes and name != refused}

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """As diffusers does, but whatever code lies in the folder, what runs is this class."""
        hub = {key: value for key, value in options.items() if key in HUB}
        kinds = {"unet": MinidiffUNet, "vae": MinidiffAutoencoder, "text_encoder": MinidiffTextEncoder}
        parts = {"scheduler": DDIMScheduler.from_pretrained(name, subfolder="scheduler", **hub)}
        index = cls.load_config(name, **hub)
        listed = [part for part in kinds if index.get(part, [None])[0] is not None]
        return cls(**parts, **{part: kinds[part].from_pretrained(name, subfolder=part, **options) for part in listed})

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """As diffusers does, with the few lines of code that bring this class back."""
        super().save_pretrained(save_directory, **options)
        index = Path(save_directory) / self.config_name
        said = json.loads(index.read_text(encoding="utf-8")) | {"_class_name": LOADER}
        write_whole(index, json.dumps(said, indent=2) + "\n")
        write_whole(index.with_name(f"{LOADER[0]}.py"), CODE)


def wrap(kind: type[ModelMixin], network: nn.Module, **config: Any) -> ModelMixin:
    """A network of ours in one of the classes above, sharing its weights."""
    wrapped = kind(dataclasses.asdict(network.config), **config)
    wrapped.net = network
    return wrapped.eval()
