"""Training a CLIP: the pictures of a batch learn to find their captions among those of the batch, and the reverse."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.data.captions import captions, short_captions
from minidiff.data.pictures import Pictures
from minidiff.data.tokens import Tokenizer
from minidiff.evaluation.clip_scores import clip_score, retrieval
from minidiff.nets.clip import Clip, import_open_clip, new_clip
from minidiff.nets.probe import augment
from minidiff.training.bank import Bank, Watch, picture_bank, to_images, unwatched
from minidiff.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ClipRecipe(Recipe):
    """open_clip's contrastive loss (Radford et al., ICML 2021, figure 3) on pictures blurred and noisy as a probe's are.

    `held_out` pictures are found among `group` distinct captions.
    """

    group: int = 64
    kind = "clip"

    def network(self) -> Clip:
        return new_clip(self.config)

    def rows(self, pictures: Pictures, indices: range, watch: Watch = unwatched) -> Bank:
        texts = short_captions(pictures.factors(indices), torch.tensor(indices))
        tokens = Tokenizer(self.config.text_cfg["context_length"])(texts)
        return {"images": picture_bank(pictures, indices, watch), "tokens": tokens.to(torch.uint8)}

    def loss(self, network: Clip, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        tokens = rows["tokens"].long()
        loss = contrastive(*network(augment(to_images(rows["images"]), seeds), tokens), tokens)
        # The loss is one of the whole batch (of each process's part, if several share it): every item bears it alike.
        return loss.expand(len(tokens))

    @torch.no_grad()
    def figures(self, network: Clip) -> dict[str, float]:
        pictures = self.held_out()
        images, texts = to_images(picture_bank(pictures)), captions(pictures.factors(slice(0, len(pictures))))
        found = retrieval(network, images, texts, self.group)
        scores = [clip_score(network, images[i], [texts[j] for j in i]) for i in torch.arange(len(texts)).split(250)]
        return {
            "held_out_picture_to_caption": found["picture_to_caption"],
            "held_out_caption_to_picture": found["caption_to_picture"],
            "held_out_clip_score": torch.cat(scores).mean().item(),
            "captions_to_choose_from": self.group,
            "held_out_pictures": self.group * found["groups"],
        }


def contrastive(images: Tensor, texts: Tensor, scale: Tensor, tokens: Tensor) -> Tensor:
    """open_clip's loss of unit vectors (B, D), a number; two items of one caption are no wrong answers to each other.

    Two pictures of a batch may well have the same caption (about 4 items in a hundred do, with 128 of Critters), and
    then neither is more right than the other. A bias of -inf takes such a pair out of both softmaxes, the item's own
    pair excepted; soft targets would do as well, but not by the library's loss.
    """
    same = (tokens[:, None] == tokens).all(2)  # (B, B)
    same.fill_diagonal_(False)
    bias = torch.zeros_like(same, dtype=images.dtype).masked_fill_(same, -torch.inf)
    return import_open_clip().ClipLoss()(images, texts, scale, logit_bias=bias)
