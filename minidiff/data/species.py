"""A species is a row of shape numbers: every critter is the same parametric face, so two species differ by their rows alone.

Lengths are in head radii, with the face's centre at (0, 0), x to the right and y down. Because the rows are plain numbers a
species can also be mixed from two others, which makes "how related are these domains?" a dial.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """The numbers that make a species. Darkness, light, pinkness and the like run from 0 to 1."""

    head_width: float
    head_height: float
    chin: float  # negative: the face narrows downwards
    ear_base_x: float
    ear_base_y: float
    ear_tip_x: float
    ear_tip_y: float
    ear_base_radius: float
    ear_tip_radius: float
    ear_front: float  # 1: the ear hangs in front of the head
    ear_dark: float
    ear_inner: float  # visibility of the inner ear
    eye_width: float
    eye_height: float
    pupil_width: float  # 1: round, small: a slit
    muzzle_x: float  # half the distance between the two lobes
    muzzle_y: float
    muzzle_width: float
    muzzle_height: float
    muzzle_light: float
    nose_width: float
    nose_height: float
    nose_pink: float
    whiskers: float


SPECIES: dict[str, Shape] = {
    "cat": Shape(
        head_width=1.05, head_height=0.88, chin=-0.08,
        ear_base_x=0.60, ear_base_y=-0.50, ear_tip_x=0.84, ear_tip_y=-1.20, ear_base_radius=0.36, ear_tip_radius=0.05,
        ear_front=0.0, ear_dark=0.0, ear_inner=1.0, eye_width=0.29, eye_height=0.27, pupil_width=0.45,
        muzzle_x=0.16, muzzle_y=0.42, muzzle_width=0.24, muzzle_height=0.20, muzzle_light=0.55,
        nose_width=0.11, nose_height=0.08, nose_pink=1.0, whiskers=1.0,
    ),
    "dog": Shape(
        head_width=0.94, head_height=0.92, chin=0.02,
        ear_base_x=0.72, ear_base_y=-0.56, ear_tip_x=0.90, ear_tip_y=0.14, ear_base_radius=0.24, ear_tip_radius=0.27,
        ear_front=1.0, ear_dark=0.45, ear_inner=0.0, eye_width=0.26, eye_height=0.27, pupil_width=1.0,
        muzzle_x=0.16, muzzle_y=0.46, muzzle_width=0.34, muzzle_height=0.33, muzzle_light=0.60,
        nose_width=0.20, nose_height=0.14, nose_pink=0.0, whiskers=0.0,
    ),
    "wild": Shape(  # a fox
        head_width=1.06, head_height=0.88, chin=-0.34,
        ear_base_x=0.60, ear_base_y=-0.46, ear_tip_x=0.94, ear_tip_y=-1.34, ear_base_radius=0.33, ear_tip_radius=0.03,
        ear_front=0.0, ear_dark=0.65, ear_inner=0.35, eye_width=0.28, eye_height=0.24, pupil_width=0.6,
        muzzle_x=0.36, muzzle_y=0.42, muzzle_width=0.46, muzzle_height=0.36, muzzle_light=0.92,
        nose_width=0.13, nose_height=0.10, nose_pink=0.0, whiskers=0.4,
    ),
}  # fmt: skip
NAMES = tuple(SPECIES)


def species_index(name: str) -> int:
    """The number of a species in `Factors.species`. Raises ValueError naming the known ones."""
    if name not in SPECIES:
        raise ValueError(f"species: there is no {name!r}; known species are {', '.join(NAMES)}")
    return NAMES.index(name)


def mixed(a: str, b: str, amount: float) -> Shape:
    """A species between two: each number is a's + amount (b's - a's), with 0 <= amount <= 1.

    Raises ValueError for an unknown species or another amount: beyond the two, numbers that run from 0 to 1 would not.
    """
    species_index(a), species_index(b)
    if not 0 <= amount <= 1:
        raise ValueError(f"amount: expected a number in [0, 1], got {amount}")
    return Shape(*(x + amount * (y - x) for x, y in zip(astuple(SPECIES[a]), astuple(SPECIES[b]), strict=True)))


def shapes(species: Tensor, dtype: torch.dtype, rows: Sequence[Shape] | None = None) -> dict[str, Tensor]:
    """Look up the rows of `species` (B,) in SPECIES, or in `rows`, and return each shape number as (B, 1, 1)."""
    rows = list(SPECIES.values()) if rows is None else rows
    table = torch.tensor([astuple(shape) for shape in rows], dtype=dtype, device=species.device)
    columns = table[species].unbind(1)  # numbers x (B,)
    return {field.name: column[:, None, None] for field, column in zip(fields(Shape), columns, strict=True)}
