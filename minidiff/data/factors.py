"""The factors behind a critter: everything that decides its picture, drawn per item from a seed.

Identity (coat, eyes, pattern, build) comes from the seed of the individual; pose, mood, place and accessories from the seed
of the picture, so one individual can be met many times.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.data.species import NAMES, species_index
from minidiff.seeds import uniform

PATTERNS = ("plain", "striped", "spotted", "patched")
COATS = {
    "orange": (0.90, 0.52, 0.20), "brown": (0.50, 0.32, 0.20), "grey": (0.56, 0.57, 0.61), "cream": (0.93, 0.81, 0.60),
    "white": (0.94, 0.93, 0.91), "black": (0.21, 0.20, 0.23),
}  # fmt: skip
EYES = {
    "green": (0.35, 0.75, 0.30),
    "blue": (0.25, 0.60, 0.92),
    "amber": (0.95, 0.68, 0.12),
    "hazel": (0.60, 0.40, 0.18),
}
BACKGROUNDS = {
    "red": (0.78, 0.32, 0.34), "yellow": (0.90, 0.78, 0.40), "green": (0.40, 0.66, 0.42), "teal": (0.30, 0.62, 0.64),
    "blue": (0.34, 0.48, 0.78), "purple": (0.56, 0.40, 0.72), "pink": (0.92, 0.62, 0.74),
}  # fmt: skip
HATS = {
    "red": (0.62, 0.03, 0.07),
    "blue": (0.06, 0.12, 0.62),
    "green": (0.02, 0.38, 0.14),
    "yellow": (1.00, 0.93, 0.02),
}  # strong, so that no background hides them

RARE_RATES = {"glasses": 0.02, "hat": 0.01, "baby": 0.01}  # how often each group occurs in the world
COMMON_RATES = {"glasses": 0.15, "hat": 0.15, "baby": 0.02}  # the same world where accessories are in fashion


@dataclass(frozen=True)
class Factors:
    """One row per picture. Numbers are (B,), colours (B, 3) in [0, 1]; lengths are in half picture sides."""

    species: Tensor  # long, index into species.NAMES
    x: Tensor  # [-0.15, 0.15], to the right
    y: Tensor  # [-0.08, 0.18], downwards
    size: Tensor  # head radius, [0.48, 0.70]
    tilt: Tensor  # radians, [-0.4, 0.4], clockwise
    gaze_x: Tensor  # [-1, 1]
    gaze_y: Tensor  # [-1, 1]
    smile: Tensor  # [-1, 1], -1 is sad
    coat: Tensor
    eye: Tensor
    background: Tensor
    hat_colour: Tensor
    pattern: Tensor  # long, index into PATTERNS
    ear_length: Tensor  # [0.85, 1.15], times the species' own
    eye_size: Tensor  # [0.9, 1.1]
    marking: Tensor  # [0, 1), where spots and patches lie
    glasses: Tensor  # bool
    hat: Tensor  # bool
    baby: Tensor  # bool
    individual: Tensor  # long, the seed of the identity

    def __len__(self) -> int:
        return len(self.species)

    def __getitem__(self, index: slice | Tensor) -> "Factors":
        return Factors(**{name: value[index] for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to(self, *args) -> "Factors":
        return Factors(**{name: value.to(*args) for name, value in self.tensors().items()})

    def replace(self, **changes: Tensor | float | bool | str | tuple) -> "Factors":
        """The true counterfactual: the same animals with some factors changed, `factors.replace(species="dog", smile=1.0)`.

        A change is one value for all, or a tensor with one row per picture. Raises ValueError for an unknown factor or species.
        """
        known = self.tensors()
        if unknown := set(changes) - set(known):
            raise ValueError(f"replace: no factor named {sorted(unknown)}; the factors are {', '.join(known)}")
        if isinstance(changes.get("species"), str):
            changes["species"] = species_index(changes["species"])
        new = {
            name: torch.as_tensor(value, dtype=known[name].dtype, device=known[name].device).expand_as(known[name])
            for name, value in changes.items()
        }
        return dataclasses.replace(self, **new)


def nearest(colours: Tensor, palette: Mapping[str, tuple]) -> Tensor:
    """Which colour of a palette each of the colours (B, 3) is nearest to, (B,) long."""
    known = torch.tensor(list(palette.values()), dtype=colours.dtype, device=colours.device)
    return torch.cdist(colours, known).argmin(1)


def sample_factors(
    seeds: Tensor,
    species: str = "all",
    rates: Mapping[str, float] = RARE_RATES,
    individuals: Tensor | None = None,
) -> Factors:
    """Draw the factors of pictures with int64 `seeds` (B,); `individuals` (B,) fixes who is in them (default: a stranger each).

    Raises ValueError for an unknown species, an unknown group in `rates` or a rate outside [0, 1].
    """
    for group, rate in rates.items():
        if group not in RARE_RATES or not 0 <= rate <= 1:
            raise ValueError(f"rates: expected {', '.join(RARE_RATES)} with rates in [0, 1], got {group!r}: {rate!r}")
    rates = RARE_RATES | dict(rates)
    who = seeds if individuals is None else individuals.to(seeds.device)

    def between(low: float, high: float, name: str, of: Tensor = seeds) -> Tensor:
        return low + (high - low) * uniform(of, stream=name)

    def choice(count: int, name: str, of: Tensor = seeds) -> Tensor:
        return (uniform(of, stream=name) * count).long().clamp(max=count - 1)

    def colour(palette: dict, name: str, of: Tensor = seeds) -> Tensor:
        colours = torch.tensor(list(palette.values()), device=seeds.device)
        shade = between(-0.07, 0.07, name + " shade", of)[:, None]
        tint = 0.06 * (uniform(of, (3,), name + " tint") - 0.5)
        return (colours[choice(len(palette), name, of)] + shade + tint).clamp(0, 1)

    return Factors(
        species=choice(len(NAMES), "species", who)
        if species == "all"
        else torch.full_like(seeds, species_index(species)),
        x=between(-0.15, 0.15, "x"),
        y=between(-0.08, 0.18, "y"),
        size=between(0.48, 0.70, "size"),
        tilt=between(-0.4, 0.4, "tilt"),
        gaze_x=between(-1, 1, "gaze x"),
        gaze_y=between(-1, 1, "gaze y"),
        smile=between(-1, 1, "smile"),
        coat=colour(COATS, "coat", who),
        eye=colour(EYES, "eye", who),
        background=colour(BACKGROUNDS, "background"),
        hat_colour=colour(HATS, "hat colour"),
        pattern=choice(len(PATTERNS), "pattern", who),
        ear_length=between(0.85, 1.15, "ear length", who),
        eye_size=between(0.9, 1.1, "eye size", who),
        marking=uniform(who, stream="marking"),
        glasses=uniform(seeds, stream="glasses") < rates["glasses"],
        hat=uniform(seeds, stream="hat") < rates["hat"],
        baby=uniform(who, stream="baby") < rates["baby"],
        individual=who,
    )
