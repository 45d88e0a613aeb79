"""Edits with a known right answer: a picture, its caption with one thing changed, and the picture that caption should give.

Six kinds, as people edit pictures: another species, coat, background or expression, an accessory put on or taken off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minidiff.data.captions import ATTRIBUTES, attributes_of, compose, factors_of
from minidiff.data.critters import COMMON_RATES, Critters, Factors, render
from minidiff.seeds import as_seeds, uniform

KINDS = ("species", "coat", "background", "expression", "accessory added", "accessory removed")
Attributes = dict[str, Any]


@dataclass(frozen=True)
class Edits:
    """Row i is one edit: pictures and their truth (B, 3, S, S), what holds before and after, and which attribute changes."""

    images: Tensor
    truth: Tensor
    factors: Factors  # of the pictures
    before: list[Attributes]
    after: list[Attributes]
    changed: list[str]
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def source(self) -> list[str]:
        return [compose(attributes) for attributes in self.before]

    @property
    def target(self) -> list[str]:
        return [compose(attributes) for attributes in self.after]


def edits(count: int, seed: int, kinds: Sequence[str] = KINDS, size: int = 64) -> Edits:
    """`count` edits of every kind on pictures of the Critters stream `seed`; no picture is edited twice.

    Raises ValueError for an unknown kind.
    """
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"kinds: expected some of {', '.join(KINDS)}, got {', '.join(sorted(unknown))}")
    pool = 40 * count * len(kinds)  # the rarest kind needs a wearer: more than a quarter are
    critters = Critters("all", length=pool, seed=seed, size=size, rates=COMMON_RATES)
    factors, found = critters.factors(slice(pool)), []
    before = attributes_of(factors)
    draws = uniform(as_seeds(seed << 32, pool), (2,), "edit").tolist()
    rows = iter(range(pool))
    for kind in kinds:
        wanted = len(found) + count
        while len(found) < wanted:
            row = next(rows)
            if change := one_change(kind, before[row], *draws[row]):
                found.append((row, kind, *change))
    index = torch.tensor([row for row, *_ in found])
    ours = factors[index]
    after = [before[row] | {name: value} for row, _, name, value in found]
    changed = [ours[i : i + 1].replace(**factors_of({name: value})) for i, (*_, name, value) in enumerate(found)]
    answers = Factors(**{name: torch.cat([getattr(f, name) for f in changed]) for name in ours.tensors()})
    kinds, names = ([each[k] for each in found] for k in (1, 2))
    return Edits(critters[index], render(answers, size), ours, [before[i] for i in index.tolist()], after, names, kinds)


def one_change(kind: str, now: Attributes, which: float, value: float) -> tuple[str, Any] | None:
    """The attribute to change and its new value, from two numbers in (0, 1); None where this kind cannot be done."""
    if kind == "accessory removed":
        worn = [name for name in ("glasses", "hat") if now[name]]
        return (worn[int(which * len(worn))], ATTRIBUTES[worn[int(which * len(worn))]][0]) if worn else None
    if kind == "accessory added":
        name = ("glasses", "hat")[int(2 * which)]
        choices = [choice for choice in ATTRIBUTES[name] if choice]
        return None if now[name] else (name, choices[int(value * len(choices))])
    name = {"expression": "mood"}.get(kind, kind)
    choices = [choice for choice in ATTRIBUTES[name] if choice not in (now[name], "neutral", None)]
    return name, choices[int(value * len(choices))]
