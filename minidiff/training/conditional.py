"""Training a denoiser that is told things: each item is told by one route or several, and some are told nothing.

Leaving things out is what makes guidance possible (Ho & Salimans, "Classifier-free diffusion guidance", 2022, algorithm
1); one network for all routes: Rombach et al., CVPR 2022, section 3.3.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from minidiff import zoo
from minidiff.conditioning import MAPS, one_hot, with_ones
from minidiff.data.degradations import blur, random_masks, random_sigmas, shrink
from minidiff.data.pictures import Pictures
from minidiff.denoiser import Denoiser
from minidiff.nets.unet import UNet
from minidiff.seeds import uniform
from minidiff.training.bank import Bank, Watch, layout_bank, picture_bank, to_images, unwatched
from minidiff.training.denoisers import DenoiserRecipe


@dataclass(frozen=True, kw_only=True)
class ConditionalRecipe(DenoiserRecipe):
    """A denoiser of Critters told captions, class labels (species) and pictures, in the shares of `routes`.

    A route is a "+"-joined list of "text", "label", "layout", "low_res", "blurred", "known"; "" tells nothing. `text` names
    the CLIP whose text tower reads the captions, as for `zoo.load_clip`; it stays as it is. `start` is a model of the zoo whose
    weights training begins with; what it cannot be told yet has no say at first.
    """

    text: str
    routes: tuple[tuple[str, float], ...]
    start: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {"text", "label", *MAPS}
        for route, share in self.routes:
            if set(route.split("+")) - known - {""} or share < 0:
                raise ValueError(f"routes: expected shares of {', '.join(sorted(known))}, got {route!r}: {share}")
        if abs(sum(share for _, share in self.routes) - 1) > 1e-6:
            raise ValueError(f"routes: expected shares that sum to 1, got {self.routes}")

    def sources(self) -> dict[str, str]:
        others = {"text": self.text} | ({"start": self.start} if self.start else {})
        return super().sources() | {f"{role}_sha256": zoo.describe(name)["sha256"] for role, name in others.items()}

    def prepare(self, network: Denoiser, bank: Bank) -> None:
        if self.start:
            begin_with(network.net, zoo.load(self.start).denoiser.net)

    def rows(self, pictures: Pictures, indices: range, watch: Watch = unwatched) -> Bank:
        from minidiff.data.captions import short_captions

        factors = pictures.factors(indices)
        rows = super().rows(pictures, indices, watch)
        texts = short_captions(factors, torch.tensor(indices))
        words = tower(self.text).tokenizer(texts)
        rows |= {"words": words.to(torch.uint8 if words.max() < 256 else torch.int32), "label": factors.species}
        if self.config.maps:
            rows |= {
                "images": picture_bank(pictures, indices, watch),
                "layout": layout_bank(factors, pictures.size, watch),
            }
        return rows

    def condition(self, network: Denoiser, rows: Bank, seeds: Tensor) -> dict[str, Tensor]:
        told = self.told(seeds)
        tokens, mask = self.tokens(network, rows, told)
        maps = {"features": self.features(network, rows, seeds, told)} if self.config.maps else {}
        return {"tokens": tokens, "mask": mask} | maps

    def told(self, seeds: Tensor) -> dict[str, Tensor]:
        """Which items are told what: name -> (B,) bool, from each item's own draw among the routes."""
        shares = torch.tensor([share for _, share in self.routes], device=seeds.device)
        route = torch.bucketize(uniform(seeds, stream="route"), shares.cumsum(0)[:-1])  # (B,)
        names = [route.split("+") for route, _ in self.routes]
        return {
            name: torch.tensor([name in parts for parts in names], device=seeds.device)[route]
            for name in ("text", "label", *MAPS)
        }

    def tokens(self, network: Denoiser, rows: Bank, told: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Caption and label tokens (B, L + 1, W): the empty caption where there is neither, no caption where only a label."""
        text, label, clip = told["text"], told["label"], tower(self.text, rows["words"].device)
        empty = clip.tokenizer([""]).to(rows["words"])
        words = torch.where(text[:, None], rows["words"], empty).long()
        with torch.no_grad():
            hidden, mask = clip.token_states(words)
        mask = mask & (text | ~label)[:, None]
        token = network.net.labels(rows["label"])[:, None]
        return torch.cat([hidden, token], dim=1), torch.cat([mask, label[:, None]], dim=1)

    def features(self, network: Denoiser, rows: Bank, seeds: Tensor, told: dict[str, Tensor]) -> Tensor:
        """Features of the pictures laid over the latents, exactly zero for items that are told none."""
        images = to_images(rows["images"])
        size = images.shape[-1]
        mask = random_masks(seeds, len(seeds), size).to(images)
        sigma = random_sigmas(seeds, len(seeds), size).to(images)
        small = shrink(images).repeat_interleave(4, 2).repeat_interleave(4, 3)
        parts = {
            "layout": one_hot(rows["layout"].long()),
            "low_res": with_ones(small),
            "blurred": with_ones(blur(images, sigma)),
            "known": torch.cat([images * mask, mask], dim=1),
        }
        stack = torch.cat([part * told[name].view(-1, 1, 1, 1) for name, part in parts.items()], dim=1)
        any_map = torch.stack([told[name] for name in MAPS]).any(0)
        return network.net.map_encoder(stack) * any_map.view(-1, 1, 1, 1)


@torch.no_grad()
def begin_with(net: UNet, other: UNet) -> None:
    """Give `net` the weights of `other`, which is told less: map features that only `net` takes count nothing at first
    (as in Brooks, Holynski & Efros, "InstructPix2Pix", CVPR 2023, section 3.2).

    Raises ValueError when the networks differ in more than maps.
    """
    weights, own = other.state_dict(), net.state_dict()
    known = weights.pop("first.weight")
    wrong = sorted(name for name, weight in weights.items() if name not in own or own[name].shape != weight.shape)
    if wrong or own["first.weight"].shape[0] != len(known):
        raise ValueError(f"start: expected a network of the same widths; these weights do not fit: {wrong}")
    net.load_state_dict(own | weights | {"first.weight": torch.zeros_like(own["first.weight"])})
    net.first.weight[:, : known.shape[1]] = known


@cache
def tower(name: str, device: torch.device | str = "cpu") -> Any:
    """The frozen CLIP that reads captions."""
    return zoo.load_clip(name, device)
