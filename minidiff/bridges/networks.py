"""The networks of diffusers under the contracts of minidiff: U-Net as a denoiser's network, AutoencoderKL, text encoder.

Nothing is copied: these are thin shells, and what diffusers does to its networks (half precision, sliced attention,
offloading) it does to them inside the shells as well.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn

from minidiff.bridges.schedulers import training_of
from minidiff.denoiser import Denoiser, Prediction
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.blocks import CrossAttention, Watch
from minidiff.nets.unet import UNetConfig
from minidiff.schedule import Schedule

# What a U-Net may ask for besides noisy latents, a time and tokens; None in the config: not asked for.
UNKNOWN = ("class_embed_type", "num_class_embeds", "addition_embed_type", "time_cond_proj_dim")


def as_denoiser(unet: UNet2DModel | UNet2DConditionModel, scheduler: SchedulerMixin) -> Denoiser:
    """A U-Net and the scheduler it was trained with, as one of minidiff's denoisers.

    Raises ValueError for a U-Net or a scheduler that minidiff would not treat as diffusers does.
    """
    training = training_of(scheduler)
    net = DiffusersUNet(unet)
    if training.clip is None:
        return Denoiser(net, training.schedule, training.predicts)
    if net.config.context:
        raise ValueError(
            f"scheduler: clip_sample cuts x0 at {training.clip:g}, and latents go beyond; "
            f"{type(scheduler).__name__}.from_config(config, clip_sample=False) does not"
        )
    return ClippedDenoiser(net, training.schedule, training.predicts, training.clip)


class ClippedDenoiser(Denoiser):
    """A denoiser whose x0 keeps within [-bound, bound], as pictures do; eps stays as it is (diffusers' "clip_sample")."""

    def __init__(self, net: nn.Module, schedule: Schedule, predicts: str, bound: float) -> None:
        super().__init__(net, schedule, predicts)
        self.bound = bound

    def forward(self, x_t: Tensor, t: float | Tensor, **cond: Tensor) -> Prediction:
        x0, eps = super().forward(x_t, t, **cond)
        return Prediction(x0.clamp(-self.bound, self.bound), eps)


class DiffusersUNet(nn.Module):
    """(x (B, C, H, W), t (B,), tokens (B, L, W) for UNet2DConditionModel) -> (B, C, H, W).

    A learned variance, the second half of the channels that some networks return, is left out.
    Raises ValueError for a U-Net that asks for more than that.
    """

    def __init__(self, unet: UNet2DModel | UNet2DConditionModel) -> None:
        super().__init__()
        check_unet(unet)
        self.unet, self.home = unet, home(unet)
        config = unet.config
        self.config = UNetConfig(
            in_channels=config.in_channels,
            channels=tuple(config.block_out_channels),
            attention=tuple("Attn" in kind for kind in config.down_block_types),
            out_channels=config.out_channels,
            context=context_of(unet),
        )

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """mask (B, L) is True where there is a token to look at. Raises ValueError without the tokens it needs."""
        if not self.config.context:
            return self.unet(x, t).sample[:, : x.shape[1]]
        if tokens is None or tokens.shape[2] != self.config.context:
            got = "none: tell it what to draw, as in model.given(text=...)" if tokens is None else tuple(tokens.shape)
            raise ValueError(f"tokens: this network takes tokens (B, L, {self.config.context}), got {got}")
        mask = None if mask is None or mask.all() else mask
        return self.unet(x, t, tokens, encoder_attention_mask=mask).sample[:, : x.shape[1]]

    @contextmanager
    def watching(self, kind: type[nn.Module], watch: Watch) -> Iterator[None]:
        """`blocks.watching` for diffusers' attention: their plain processor, for as long as somebody looks."""
        layers = [layer for layer in self.unet.modules() if isinstance(layer, Attention)]
        layers = [layer for layer in layers if layer.is_cross_attention == (kind is CrossAttention)]
        before = [layer.processor for layer in layers]
        for layer in layers:
            layer.set_processor(AttnProcessor())
            layer.get_attention_scores = watched(layer, watch)
        try:
            yield
        finally:
            for layer, processor in zip(layers, before, strict=True):
                del layer.get_attention_scores  # the class's own is there again
                layer.set_processor(processor)


def watched(layer: Attention, watch: Watch):
    """The layer's attention probabilities (B * heads, queries, keys) by way of `watch`, which sees the heads apart."""
    plain, heads = layer.get_attention_scores, layer.heads

    def scores(query: Tensor, key: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return watch(plain(query, key, attention_mask).unflatten(0, (-1, heads))).flatten(0, 1)

    return scores


def check_unet(unet: nn.Module) -> None:
    """Raise ValueError, naming what it asks for, for a U-Net that is not told by time and tokens alone."""
    if not isinstance(unet, (UNet2DModel, UNet2DConditionModel)):
        raise ValueError(f"unet: expected a UNet2DModel or a UNet2DConditionModel, got a {type(unet).__name__}")
    config = unet.config
    asked = {name: config.get(name) for name in UNKNOWN if config.get(name) is not None}
    if config.get("encoder_hid_dim_type") not in (None, "text_proj"):
        asked["encoder_hid_dim_type"] = config.encoder_hid_dim_type
    if asked:
        raise ValueError(f"unet: it asks for conditions that minidiff cannot give: {asked}")
    if config.out_channels not in (config.in_channels, 2 * config.in_channels):
        raise ValueError(
            f"unet: expected as many channels out as in, got {config.in_channels} in and {config.out_channels} out "
            "(a network for inpainting takes the known picture as more channels)"
        )


def context_of(unet: UNet2DModel | UNet2DConditionModel) -> int:
    """The width of the tokens that it attends to; 0 for none."""
    if isinstance(unet, UNet2DModel):
        return 0
    width = unet.config.encoder_hid_dim or unet.config.cross_attention_dim
    return width if isinstance(width, int) else width[0]


class DiffusersAutoencoder(Autoencoder):
    """images (B, C, H, W) in [-1, 1] <-> latents (B, c, H/f, W/f), scaled by the numbers in the config of an AutoencoderKL.

    Its two networks work as diffusers has them do; samples of the posterior, scale and checks are `Autoencoder`'s. Of `config`
    the channels and the factor are true, the widths are not its own.
    Raises ValueError for what is no AutoencoderKL, or for latents wider than 16 pixels or as small as one.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        nn.Module.__init__(self)  # ours would make networks of its own
        if not isinstance(vae, AutoencoderKL):
            raise ValueError(f"vae: expected an AutoencoderKL, got a {type(vae).__name__}")
        theirs, factor = vae.config, 2 ** (len(vae.config.block_out_channels) - 1)
        if factor not in (2, 4, 8, 16):
            raise ValueError(f"vae: expected latents 2, 4, 8 or 16 pixels wide, got {factor}")
        self.vae, self.home, self.quantiser = vae, home(vae), None
        self.config = AutoencoderConfig(theirs.in_channels, theirs.latent_channels, patch=factor // 2)
        ones = torch.ones(theirs.latent_channels, dtype=vae.dtype, device=self.home.device)
        mean, std = (theirs.get(f"latents_{name}") for name in ("mean", "std"))
        shift = ones * (theirs.get("shift_factor") or 0.0) if mean is None else ones.new_tensor(mean)
        self.register_buffer("shift", shift)
        self.register_buffer("scale", (ones if std is None else ones.new_tensor(std)) / theirs.scaling_factor)

    def encoder(self, images: Tensor) -> Tensor:
        """Mean and log variance of the posterior, (B, 2 c, H/f, W/f)."""
        return self.vae.encode(images).latent_dist.parameters

    def decoder(self, raw: Tensor) -> Tensor:
        return self.vae.decode(raw).sample


class DiffusersText:
    """A text encoder and tokenizer of transformers as minidiff's TextEncoder; the padding is attended to, as diffusers does.

    Raises ValueError for a caption that is longer than the encoder reads; diffusers would cut it.
    """

    def __init__(self, encoder: nn.Module, tokenizer) -> None:
        self.encoder, self._tokenizer = encoder, tokenizer
        self.length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)

    def text_tokens(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """captions -> the encoder's last hidden states (B, L, W), and a mask (B, L) that is True everywhere."""
        self.tokenizer(captions)
        padded = self._tokenizer(list(captions), padding="max_length", max_length=self.length, return_tensors="pt")
        ids, mask = (padded[name].to(home(self.encoder).device) for name in ("input_ids", "attention_mask"))
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        hidden = self.encoder(ids, attention_mask=mask if masked else None)[0]
        return hidden, torch.ones_like(ids, dtype=torch.bool)

    def tokenizer(self, captions: Sequence[str]) -> list[Tensor]:
        """The token numbers of each caption with start and end, without padding."""
        found = [torch.tensor(ids) for ids in self._tokenizer(list(captions)).input_ids]
        for caption, ids in zip(captions, found, strict=True):
            if len(ids) > self.length:
                raise ValueError(
                    f"text: a caption of {len(ids) - 2} tokens, but there is room for {self.length - 2}: {caption!r}"
                )
        return found


def home(module: nn.Module) -> nn.Parameter:
    """An empty parameter on the device where a network computes, in its dtype; offloaded weights lie elsewhere."""
    hooks = (getattr(part, "_hf_hook", None) for part in module.modules())
    devices = (getattr(hook, "execution_device", None) for hook in hooks)
    device = next((device for device in devices if device is not None), module.device)
    return nn.Parameter(torch.empty(0, dtype=module.dtype, device=device), requires_grad=False)
