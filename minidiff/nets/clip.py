"""CLIP: one network for pictures and one for captions, trained until a picture and its caption point the same way.

Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021. The networks are
open_clip's own; what is here lets a small one of Critters and any large one of open_clip be used by the same calls.
"""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.data.captions import VOCABULARY
from minidiff.data.tokens import Tokenizer

SMALL = Path(__file__).with_name("minidiff-critters.json")  # in the format of open_clip's own model configs
STEEPEST = 100.0  # the logit scale grows no further (Radford et al., section 2.5)


@dataclass(frozen=True)
class ClipConfig:
    """A model as open_clip describes it, and the words that its text network has learnt, in their order."""

    embed_dim: int
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    words: tuple[str, ...] = VOCABULARY

    def __post_init__(self):
        if self.words != VOCABULARY:
            raise ValueError(
                f"words: the model knows {self.words}, the grammar has {VOCABULARY}; train the model again"
            )
        if self.text_cfg["vocab_size"] != Tokenizer.vocab_size:
            raise ValueError(
                f"vocab_size: expected {Tokenizer.vocab_size}, the grammar's words and three more, "
                f"got {self.text_cfg['vocab_size']}"
            )


class Clip(nn.Module):
    """Pictures and captions as unit vectors of one space, by a model of open_clip, its tokenizer and its preprocessing.

    size: side of the pictures that the model reads; mean, std: what it takes off and divides by, for colours in [0, 1].
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer,
        size: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        interpolation: str = "bicubic",
    ):
        super().__init__()
        self.model, self.tokenizer, self.size, self.interpolation = model, tokenizer, size, interpolation
        mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))  # (3, 1, 1)
        self.register_buffer("shift", 2 * mean - 1, persistent=False)  # the same for colours in [-1, 1]
        self.register_buffer("scale", 2 * std, persistent=False)

    @property
    def logit_scale(self) -> Tensor:
        """What a cosine is multiplied by to become a logit: a learnt number of at most 100, the inverse temperature."""
        return self.model.logit_scale.exp().clamp(max=STEEPEST)

    def encode_images(self, images: Tensor) -> Tensor:
        """Square pictures (B, 3, H, H) in [-1, 1], or grey ones (B, 1, H, H) -> unit vectors (B, D).

        Differentiable in the pictures. Raises ValueError for another shape.
        """
        return self.model.encode_image(self.prepare(images), normalize=True)

    def encode_text(self, texts: str | Sequence[str]) -> Tensor:
        """Captions -> unit vectors (B, D). Raises ValueError for a word or a length that the tokenizer refuses."""
        return self.encode_tokens(self.tokens(texts))

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """`encode_text` from the tokenizer's numbers (B, L) on."""
        return self.model.encode_text(tokens, normalize=True)

    def text_tokens(self, texts: str | Sequence[str]) -> tuple[Tensor, Tensor]:
        """What the text network knows at every word: hidden states (B, L, W) after its last norm, and a mask (B, L).

        This is what Stable Diffusion attends to (Rombach et al., CVPR 2022, section 3.3). The mask is True from the
        start to the end of each sentence. Raises ValueError for a model that does not mark the end.
        """
        return self.token_states(self.tokens(texts))

    def token_states(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """`text_tokens` from the tokenizer's numbers (B, L) on."""
        if getattr(self.model, "text_pool_type", None) != "argmax":
            raise ValueError("text_tokens: expected a model with CLIP's own text network, as ViT-B-32 has")
        out = self.model.forward_intermediates(
            text=tokens, text_indices=1, normalize_intermediates=True, intermediates_only=True
        )
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return out["text_intermediates"][-1], places <= tokens.argmax(1, keepdim=True)  # (B, L, W), (B, L)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of pictures and of tokens, and the logit scale: what open_clip's losses take."""
        return self.encode_images(images), self.encode_tokens(tokens), self.logit_scale

    def tokens(self, texts: str | Sequence[str]) -> Tensor:
        """Captions -> the model's own numbers (B, L), where the model is."""
        return self.tokenizer([texts] if isinstance(texts, str) else list(texts)).to(self.shift.device)

    def prepare(self, images: Tensor) -> Tensor:
        """Pictures in [-1, 1] as the model was trained to see them, (B, 3, size, size)."""
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
            raise ValueError(f"images: expected square pictures (B, 3 or 1, H, H), got {tuple(images.shape)}")
        images = images.to(self.shift.dtype).expand(-1, 3, -1, -1)
        if images.shape[2] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode=self.interpolation, antialias=True)
        return (images - self.shift) / self.scale


def small_config() -> ClipConfig:
    """The CLIP of Critters, from the file that open_clip reads too."""
    return ClipConfig(**json.loads(SMALL.read_text(encoding="utf-8")))


def register() -> str:
    """Make the small config known to open_clip; returns its name, for `open_clip.create_model`.

    Only the network: `open_clip.get_tokenizer` knows no tokenizers but its own, ours is `minidiff.data.tokens.Tokenizer`.
    """
    open_clip = import_open_clip()
    if SMALL.stem not in open_clip.list_models():
        open_clip.add_model_config(SMALL)
    return SMALL.stem


def new_clip(config: ClipConfig) -> Clip:
    """An untrained CLIP of Critters."""
    model = import_open_clip().CLIP(config.embed_dim, config.vision_cfg, config.text_cfg)
    clip = Clip(model, Tokenizer(config.text_cfg["context_length"]), config.vision_cfg["image_size"])
    clip.config = config  # what it takes to build it again; one of open_clip's has its name for that
    return clip


def pretrained(name: str, device: torch.device | str = "cpu") -> Clip:
    """A CLIP of open_clip's, "ARCH/PRETRAINED" as in "ViT-B-32/openai"; fetched from the network the first time.

    Raises ValueError for an unknown architecture or unknown weights (with the nearest known), ConnectionError when the
    weights are not on this machine and cannot be fetched.
    """
    open_clip = import_open_clip()
    arch, _, tag = name.partition("/")
    _known("architecture", arch, open_clip.list_models())
    _known(f"weights of {arch}", tag, open_clip.list_pretrained_tags_by_model(arch))
    try:
        model = open_clip.create_model(arch, pretrained=tag, device=device)
        tokenizer = open_clip.get_tokenizer(arch)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(f"name: {name} is not on this machine and could not be fetched: {error}") from error
    how = open_clip.get_model_preprocess_cfg(model)
    size = how["size"] if isinstance(how["size"], int) else how["size"][0]
    mode = "bilinear" if how["interpolation"] == "bilinear" else "bicubic"  # "random" is a matter of training
    clip = Clip(model, tokenizer, size, how["mean"], how["std"], mode)
    return clip.to(device).eval().requires_grad_(False)


def import_open_clip():
    """open_clip, when it is needed and not before: it takes seconds to import. Raises ImportError saying how to get it."""
    try:
        import open_clip
    except ImportError as error:
        raise ImportError("CLIP needs open_clip: pip install open_clip_torch") from error
    return open_clip


def _known(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"name: open_clip has no {what} {name!r}; {hint}known are {', '.join(names) or 'none'}")
