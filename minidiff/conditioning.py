"""What a network can be told: tokens to attend to (a caption, a class label) and pictures laid over the latents.

These are latent diffusion's two routes (Rombach et al., CVPR 2022, section 3.3). Whatever is not given is left out, and
a network trained with things left out now and then can be guided (see `minidiff.classifier_free`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.data.renderer import PARTS
from minidiff.nets.unet import UNet

# The channels of the picture-like condition. A colour picture brings a channel of ones (or its mask) along, so that
# "nothing given" and "a grey picture given" look different.
MAPS = {"layout": len(PARTS), "low_res": 4, "blurred": 4, "known": 4}
MAP_CHANNELS = sum(MAPS.values())


@dataclass(frozen=True)
class Condition:
    """One row per item, or one row for all: tokens (B, L, W) with mask (B, L), and features (B, K, h, w)."""

    tokens: Tensor | None = None
    mask: Tensor | None = None
    features: Tensor | None = None

    def __len__(self) -> int:
        return next((len(part) for part in self.parts().values()), 1)

    def parts(self) -> dict[str, Tensor]:
        """What is given, as keyword arguments of `UNet.forward`."""
        return {name: part for name, part in vars(self).items() if part is not None}

    def rows(self, index: slice | Tensor) -> "Condition":
        """The condition of some of the items; one row stands for all of them."""
        return self if len(self) == 1 else Condition(**{name: part[index] for name, part in self.parts().items()})

    def repeat(self, count: int) -> "Condition":
        """A row for each of `count` items. Raises ValueError when there are already others."""
        if len(self) not in (1, count):
            raise ValueError(f"condition: expected one for all, or one for each of {count} items, got {len(self)}")
        return Condition(**{name: part.expand(count, *part.shape[1:]) for name, part in self.parts().items()})


def join(first: Condition, second: Condition) -> Condition:
    """The items of two conditions, equally many, in one batch: shorter token lists are padded, absent features zero."""
    tokens = mask = features = None
    if first.tokens is not None:
        length = max(first.tokens.shape[1], second.tokens.shape[1])
        padded = [_pad(part, length) for part in (first, second)]
        tokens, mask = (torch.cat(parts) for parts in zip(*padded, strict=True))
    given = [part.features for part in (first, second)]
    if any(part is not None for part in given):
        like = next(part for part in given if part is not None)
        features = torch.cat([torch.zeros_like(like) if part is None else part for part in given])
    return Condition(tokens, mask, features)


def _pad(part: Condition, length: int) -> tuple[Tensor, Tensor]:
    more = length - part.tokens.shape[1]
    mask = torch.ones_like(part.tokens[..., 0], dtype=torch.bool) if part.mask is None else part.mask
    return F.pad(part.tokens, (0, 0, 0, more)), F.pad(mask, (0, more), value=False)


class TextEncoder(Protocol):
    """The text tower of a CLIP: captions -> hidden states (B, L, W) and mask (B, L)."""

    def text_tokens(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]: ...


def condition(
    net: UNet,
    encoder: Callable[[], TextEncoder] | None,
    text: str | Sequence[str] | None = None,
    label: int | Sequence[int] | Tensor | None = None,
    **maps: Any,
) -> Condition:
    """What was given, as the network's condition: `text` and `label` become tokens, `maps` (see `stack_maps`) features.

    `encoder` fetches the reader of captions, only when there are any to read. With neither text nor label a network that
    attends to tokens gets those of the empty caption.
    Raises ValueError for what this network was not made for, or when the parts differ in their number of items.
    """
    maps = {name: value for name, value in maps.items() if value is not None}
    config, tokens = net.config, []
    if text is not None and not (encoder and config.context):
        raise ValueError("text: this model was not trained with captions")
    if maps and not config.maps:
        raise ValueError(f"{', '.join(maps)}: this model takes no pictures as a condition")
    if label is not None:
        tokens.append(label_token(net, label))
    if config.context and (text is not None or label is None):
        text = [""] if text is None else [text] if isinstance(text, str) else list(text)
        home = next(net.parameters()).device
        tokens.append(tuple(part.to(home) for part in encoder().text_tokens(text)))

    features = None
    if maps:
        stacked = stack_maps(config.map_factor, **maps).to(net.first.weight)
        features = net.map_encoder(stacked)
    counts = {len(part) for part, _ in tokens} | ({len(features)} if features is not None else set())
    count = max(counts, default=1)
    if counts - {1, count}:
        raise ValueError(f"condition: expected one of each for every item, got {sorted(counts)} of them")
    if not tokens:
        return Condition(features=features)
    hidden = torch.cat([part.expand(count, -1, -1) for part, _ in tokens], dim=1)
    mask = torch.cat([part.expand(count, -1) for _, part in tokens], dim=1)
    return Condition(hidden, mask, features).repeat(count)


def label_token(net: UNet, label: int | Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
    """Class labels (B,) as one token each: (B, 1, W) and its mask. Raises ValueError for an unknown label."""
    if net.labels is None:
        raise ValueError("label: this model was not trained with class labels")
    index = torch.as_tensor(label, device=net.labels.weight.device).reshape(-1)
    count = net.config.classes
    if index.is_floating_point() or index.min() < 0 or index.max() >= count:
        raise ValueError(f"label: expected whole numbers from 0 to {count - 1}, got {index.tolist()}")
    return net.labels(index)[:, None], torch.ones(len(index), 1, dtype=torch.bool, device=index.device)


def stack_maps(
    factor: int,
    layout: Tensor | None = None,
    low_res: Tensor | None = None,
    blurred: Tensor | None = None,
    known: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The given pictures as one stack (B, MAP_CHANNELS, S, S), zero where nothing is given.

    layout (B, S, S) holds part numbers; low_res (B, 3, S/k, S/k) and blurred (B, 3, S, S) pictures in [-1, 1]; known is
    a picture (B, 3, S, S) and a mask (B, 1, S, S) that is 1 where the picture is known and 0 where it is to be painted.
    Raises ValueError for a wrong shape, an unknown part or a mask that is not binary.
    """
    parts = {}
    if layout is not None:
        parts["layout"] = one_hot(layout)
    if blurred is not None:
        parts["blurred"] = with_ones(picture("blurred", blurred))
    if known is not None:
        images, mask = known
        check_mask(mask, picture("known", images))
        parts["known"] = torch.cat([images * mask, mask.to(images)], dim=1)
    size = max((part.shape[-1] for part in parts.values()), default=None)
    if low_res is not None:
        side = picture("low_res", low_res).shape[-1]
        size = size or 4 * side
        if size % side:
            raise ValueError(f"low_res: expected a side that divides {size}, got {side}")
        parts["low_res"] = with_ones(F.interpolate(low_res, size=(size, size)))  # nearest: nothing is made up
    if not parts:
        raise ValueError(f"maps: expected at least one of {', '.join(MAPS)}")
    shapes = {name: (len(part), *part.shape[2:]) for name, part in parts.items()}
    if len(set(shapes.values())) > 1 or size % factor:
        raise ValueError(f"maps: expected one number and size of pictures, multiples of {factor}, got {shapes}")
    like = next(iter(parts.values()))
    absent = {name: like.new_zeros(len(like), channels, size, size) for name, channels in MAPS.items()}
    return torch.cat(list((absent | parts).values()), dim=1)


def one_hot(layout: Tensor) -> Tensor:
    """Part numbers (B, S, S) -> (B, parts, S, S). Raises ValueError for a number that is no part."""
    if layout.ndim != 3 or layout.is_floating_point():
        raise ValueError(f"layout: expected whole numbers (B, S, S), got {layout.dtype} of shape {tuple(layout.shape)}")
    if layout.min() < 0 or layout.max() >= len(PARTS):
        raise ValueError(f"layout: expected part numbers 0 to {len(PARTS) - 1}, got {layout.min()} to {layout.max()}")
    return F.one_hot(layout.long(), len(PARTS)).movedim(3, 1).float()


def with_ones(images: Tensor) -> Tensor:
    """A picture (B, 3, S, S) and a channel that says "given"."""
    return torch.cat([images, torch.ones_like(images[:, :1])], dim=1)


def picture(name: str, images: Tensor) -> Tensor:
    """The pictures, if they are colour pictures (B, 3, S, S) in [-1, 1]; ValueError otherwise."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or not images.is_floating_point():
        raise ValueError(f"{name}: expected floats (B, 3, S, S), got {images.dtype} of shape {tuple(images.shape)}")
    if not images.abs().max() <= 1 + 1e-3:
        raise ValueError(f"{name}: expected finite values in [-1, 1], got up to {images.abs().max():.4g}")
    return images


def check_mask(mask: Tensor, images: Tensor) -> None:
    """Raise ValueError unless the mask is (B, 1, S, S) for these pictures, of zeros and ones."""
    if mask.shape != (len(images), 1, *images.shape[2:]):
        raise ValueError(
            f"mask: expected ({len(images)}, 1, {images.shape[2]}, {images.shape[3]}), got {tuple(mask.shape)}"
        )
    values = mask.unique()
    if not ((values == 0) | (values == 1)).all():
        raise ValueError(
            f"mask: expected only 0 (to be painted) and 1 (known), got values such as {values[:4].tolist()}"
        )
