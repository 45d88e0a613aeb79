"""Does a picture show what a caption says? Scores by CLIP, and a test of the judge itself.

CLIP score and directional CLIP score as the CycleDiffusion paper reports them (Wu & De la Torre, ICCV 2023, section 4.2;
the direction is Gal et al.'s, "StyleGAN-NADA", SIGGRAPH 2022, equation 3). Every function takes a `minidiff.nets.clip.Clip`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.nets.clip import Clip


def clip_score(clip: Clip, images: Tensor, captions: str | Sequence[str]) -> Tensor:
    """cos(f_I(x), f_T(t)) per pair, (B,) in [-1, 1]; one caption may stand for all pictures (B, C, H, W) in [-1, 1].

    Raises ValueError for as many captions as there are not pictures.
    """
    return (clip.encode_images(images) * _texts(clip, captions, len(images))).sum(1)


def directional_score(
    clip: Clip, images: Tensor, edited: Tensor, captions: str | Sequence[str], edited_captions: str | Sequence[str]
) -> Tensor:
    """cos(f_I(x') - f_I(x), f_T(t') - f_T(t)) per pair, (B,): did the picture change the way its caption did?

    0 where the picture did not change at all. Raises ValueError where the two captions are the same: no way to go.
    """
    text = _texts(clip, edited_captions, len(edited)) - _texts(clip, captions, len(images))
    if (same := (text == 0).all(1)).any():
        raise ValueError(f"captions: the edited one is as before in pairs {same.nonzero().flatten().tolist()}")
    return F.cosine_similarity(clip.encode_images(edited) - clip.encode_images(images), text, dim=1)


@torch.no_grad()
def retrieval(
    clip: Clip, images: Tensor, captions: Sequence[str], group: int = 64, batch: int = 250
) -> dict[str, float]:
    """Top-1 accuracy among `group` pairs of distinct captions: of finding the caption of a picture, and the reverse.

    images (N, C, H, W) in [-1, 1] and their N captions are dealt out into groups by `distinct_groups`; "groups" says how
    many there were. Raises ValueError when not even one group is full.
    """
    if len(images) != len(captions):
        raise ValueError(f"captions: expected one per picture, {len(images)}, got {len(captions)}")
    groups = distinct_groups(captions, group)
    pictures = torch.cat([clip.encode_images(part) for part in images.split(batch)])
    texts = clip.encode_text(captions)
    found = [top_1(pictures[index] @ texts[index].T) for index in groups]
    to_caption, to_picture = (sum(values) / len(groups) for values in zip(*found))
    return {"picture_to_caption": to_caption, "caption_to_picture": to_picture, "groups": len(groups)}


def top_1(similarity: Tensor) -> tuple[float, float]:
    """How often the largest of a row, and of a column, of similarities (N, N) is the one on the diagonal."""
    right = torch.arange(len(similarity), device=similarity.device)
    return tuple((similarity.argmax(dim) == right).double().mean().item() for dim in (1, 0))


def distinct_groups(captions: Sequence[str], size: int = 64) -> list[Tensor]:
    """Indices (size,) of groups in which no caption occurs twice: each joins the first group with room that lacks it.

    Incomplete groups are left out. Raises ValueError when there is no other.
    """
    groups: list[dict[str, int]] = []
    for i, caption in enumerate(captions):
        home = next((group for group in groups if len(group) < size and caption not in group), None)
        if home is None:
            groups.append(home := {})
        home[caption] = i
    full = [torch.tensor(list(group.values())) for group in groups if len(group) == size]
    if not full:
        raise ValueError(f"captions: expected at least {size} distinct ones, got {len(set(captions))}")
    return full


def _texts(clip: Clip, captions: str | Sequence[str], count: int) -> Tensor:
    texts = clip.encode_text(captions)  # (B, D) or (1, D)
    if not isinstance(captions, str) and len(texts) != count:
        raise ValueError(f"captions: expected one per picture, {count}, or one for all, got {len(texts)}")
    return texts.expand(count, -1)
