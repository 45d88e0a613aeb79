"""The world with rare groups, the judge's errors in it, and the generators that are to reach them.

How often each group occurs is known, so a generator that forgets or invents one is found out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.data.critters import Critters, Factors, render
from minidiff.data.factors import sample_factors
from minidiff.evaluation.prevalence import Count
from minidiff.evaluation.probes import read_all
from minidiff.families import GAN, DiffAE
from minidiff.generators import Generator, LatentDiffusion
from minidiff.nets.probe import Probe
from minidiff.zoo import UnknownModel

GROUPS = {"glasses": "a cat wearing glasses", "hat": "a cat wearing a red hat", "baby": "a baby cat"}
HELD_OUT = 2  # the seed of Critters
MEMBERS_START = 10_000_000  # of the pictures in which a group is put


@dataclass(frozen=True)
class RareWorld:
    """Critters of all species, `population` of them (None: a stranger in every picture), with groups at `rates`."""

    rates: Mapping[str, float]
    population: int | None
    size: int

    def pictures(self, n: int) -> tuple[Tensor, Factors]:
        """n held-out pictures and their factors."""
        critters = Critters("all", n, HELD_OUT, self.size, self.rates, self.population)
        return critters[:], critters.factors(slice(n))

    def members(self, group: str, n: int, species: str = "all") -> Tensor:
        """n pictures in which everyone is of the group, and otherwise as the world is."""
        seeds = HELD_OUT * 2**32 + MEMBERS_START + torch.arange(n)
        return render(sample_factors(seeds, species, self.rates).replace(**{group: True}), self.size)

    def rate(self, group: str) -> float:
        """The true rate: that of the draw, or among a known population that of its babies."""
        if group == "baby" and self.population is not None:
            who = torch.arange(self.population)
            return sample_factors(who, "all", self.rates, who).baby.double().mean().item()
        return self.rates[group]

    def individuals(self, who: Tensor, each: int, stream: int) -> Factors:
        """`each` pictures of every individual in `who` (B,), one after another, without glasses or hats: (B * each) rows."""
        seeds = (HELD_OUT + 1 + stream) * 2**32 + torch.arange(len(who) * each)
        bare = {**self.rates, "glasses": 0.0, "hat": 0.0}
        return sample_factors(seeds, "all", bare, who.repeat_interleave(each))


@dataclass(frozen=True)
class Errors:
    """How the probe reads each group in true pictures: members caught, others spared."""

    caught: dict[str, Count]
    spared: dict[str, Count]


def errors_of(probe: Probe, world: RareWorld, read: dict[str, Tensor], factors: Factors, members: int) -> Errors:
    """`read` is what the probe reads in pictures of these factors; another `members` pictures of each group are drawn."""
    caught, spared = {}, {}
    for group in GROUPS:
        seen = read_all(probe, world.members(group, members))[group] == 1
        alarms = read[group][~getattr(factors, group)] == 1
        caught[group] = Count(int(seen.sum()), members)
        spared[group] = Count(int((~alarms).sum()), len(alarms))
    return Errors(caught, spared)


def generators(names: Sequence[str], psis: Sequence[float], steps: int, load: Callable) -> dict[str, Generator | None]:
    """The generators by label: diffusion by its ODE in `steps` steps, a GAN once for each psi; None for what is not there.

    Raises UnknownModel when the zoo has none of them.
    """
    found: dict[str, Generator | None] = {}
    for name in names:
        try:
            model = load(name)
        except UnknownModel:
            found[name] = None
            continue
        if isinstance(model, GAN):
            found |= {f"{name}, psi {psi:g}": model.replace(psi=psi) for psi in psis}
        elif isinstance(model, LatentDiffusion):
            found[name] = model.replace(steps=steps, eta=0.0)
        elif isinstance(model, DiffAE):
            found[name] = model.replace(steps=steps)
        else:
            found[name] = model
    if not any(found.values()):
        raise UnknownModel(f"models: the zoo has none of {', '.join(names)}; train one of them, or name others")
    return found
