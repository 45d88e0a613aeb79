"""Do the words hold? What a probe reads in a picture, in the terms of the caption grammar, word by word."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from minidiff.data.captions import ATTRIBUTES, MOOD, OPTIONAL, attributes_of
from minidiff.data.edits import Edits
from minidiff.data.factors import HATS, Factors
from minidiff.evaluation.probes import read_all
from minidiff.nets.probe import Probe

# How far a pose may be off and still count as kept: about two pixels of 64, and seven degrees.
POSE = {"x": 0.06, "y": 0.06, "size": 0.05, "tilt": 0.12}


def read_attributes(answers: dict[str, Tensor]) -> list[dict[str, Any]]:
    """A probe's answers (see `read_all`) -> one dict of ATTRIBUTES per picture."""
    palette = torch.tensor(list(HATS.values()))
    seen = SimpleNamespace(**answers)
    seen.hat, seen.hat_colour = answers["hat_colour"] > 0, palette[(answers["hat_colour"] - 1).clamp(min=0)]
    seen.baby, seen.glasses = answers["baby"].bool(), answers["glasses"].bool()
    return attributes_of(seen)


def agreement(read: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """For each attribute, in which pictures it is as wanted: name -> (B,) bool; and under "all" where all are.

    Of what a caption says nothing anything is right.
    """

    def right(name: str, seen: dict[str, Any], asked: dict[str, Any]) -> bool:
        return seen[name] == asked[name] or (name in OPTIONAL and asked[name] is None)

    pairs = list(zip(read, wanted, strict=True))
    hits = {name: torch.tensor([right(name, *pair) for pair in pairs]) for name in ATTRIBUTES}
    return hits | {"all": torch.stack(list(hits.values())).all(0)}


def pose_kept(answers: dict[str, Tensor], factors: Factors) -> Tensor:
    """In which pictures place, size and tilt are within POSE of the truth, (B,) bool."""
    near = [(answers[name] - getattr(factors, name)).abs() <= limit for name, limit in POSE.items()]
    return torch.stack(near).all(0)


def outcomes(answers: dict[str, Tensor], todo: Edits) -> tuple[Tensor, Tensor]:
    """Of edited pictures, by a probe's answers: which show what the new caption says, and which kept all else, (B,) bool.

    All else is every other word, and the pose. A smile is kept that moved by less than makes a word: where the old one
    stood next to the border of a word, the word itself may change for nothing.
    """
    hits = agreement(read_attributes(answers), todo.after)
    same_smile = (answers["smile"] - todo.factors.smile).abs() <= MOOD
    success, rest = [], []
    for i, changed in enumerate(todo.changed):
        success.append(hits[changed][i])
        words = [hits[name][i] for name in ATTRIBUTES if name not in (changed, "mood")]
        rest.append(torch.stack([*words, torch.tensor(changed == "mood") | same_smile[i]]).all())
    return torch.stack(success), torch.stack(rest) & pose_kept(answers, todo.factors)


def words_right(probe: Probe, images: Tensor, wanted: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """`agreement` of what the probe reads in images (B, C, H, W) with what their captions say."""
    return agreement(read_attributes(read_all(probe, images)), wanted)
