"""Energies: one number per picture, low where the picture is as wished. Sums of them steer any generator by its code.

p(code | wishes) is proportional to N(code; 0, I) exp(-sum_k weight_k E_k(decode(code))): Wu & De la Torre, "A latent space
of stochastic diffusion models" (ICCV 2023), on plug-and-play guidance; they begin in Wu et al., NeurIPS 2022 (GVP).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.augment import augment
from minidiff.nets.probe import Probe
from minidiff.seeds import Seeds, as_seeds

Measure = Callable[[Tensor, Tensor | None, Tensor], Tensor]  # images (B, C, H, W), code (B, ...), seeds (B,) -> (B,)


class EnergyError(ValueError):
    """A term of an energy gave no finite number per picture; the message names it."""


@dataclass(frozen=True)
class Term:
    """One E and its weight lambda >= 0, the inverse of its temperature: exp(-weight E) = exp(-E / temperature)."""

    name: str
    measure: Measure
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"weight: expected a number of at least 0, got {self.weight} for {self.name!r}")

    @property
    def temperature(self) -> float:
        return 1 / self.weight if self.weight else math.inf

    def __call__(self, images: Tensor, code: Tensor | None, seeds: Tensor) -> Tensor:
        """E of each picture, (B,), before its weight.

        Raises EnergyError for another shape, for what is not finite, or has no gradient where the code asks for one.
        """
        value = self.measure(images, code, seeds)
        if not isinstance(value, Tensor) or value.shape != (len(images),):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise EnergyError(f"energy {self.name!r}: expected one number per picture, ({len(images)},), got {got}")
        if not value.isfinite().all():
            bad = (~value.isfinite()).nonzero().flatten().tolist()
            raise EnergyError(f"energy {self.name!r}: expected finite numbers, got {value[bad[0]]:g} in chains {bad}")
        asks = code is not None and code.requires_grad and torch.is_grad_enabled()
        if asks and not value.requires_grad:
            raise EnergyError(f"energy {self.name!r}: expected a differentiable function of the pictures, got none")
        return value

    def __str__(self) -> str:
        return f"{self.weight:g} * {self.name} (temperature {self.temperature:g})"


@dataclass(frozen=True)
class Energy:
    """weight_1 E_1 + weight_2 E_2 + ...; made by `+` of energies and `*` with a number. No terms: 0 everywhere."""

    terms: tuple[Term, ...] = ()

    def __call__(self, images: Tensor, code: Tensor | None = None, seeds: Seeds = 0) -> Tensor:
        """The weighted sum (B,) of images (B, C, H, W) and their code (B, ...); item i depends on seed i alone.

        Pictures that come from no generator have no code: only terms that look at it ask for one (ValueError).
        """
        return self.total(self.parts(images, code, seeds))

    def parts(self, images: Tensor, code: Tensor | None = None, seeds: Seeds = 0) -> Tensor:
        """Each E before its weight, (B, terms)."""
        seeds, like = as_seeds(seeds, len(images), images.device), images if code is None else code
        values = [term(images, code, seeds).to(like.dtype) for term in self.terms]
        return torch.stack(values, dim=1) if values else like.new_zeros(len(images), 0)

    def total(self, parts: Tensor) -> Tensor:
        """sum_k weight_k E_k of parts (B, terms), (B,)."""
        return parts @ parts.new_tensor([term.weight for term in self.terms])

    def __add__(self, other: "Energy") -> "Energy":
        return Energy(self.terms + other.terms) if isinstance(other, Energy) else NotImplemented

    def __radd__(self, other: int) -> "Energy":
        return self if other == 0 else NotImplemented  # where sum() starts

    def __mul__(self, factor: float) -> "Energy":
        if isinstance(factor, Energy):
            return NotImplemented
        return Energy(tuple(replace(term, weight=float(factor) * term.weight) for term in self.terms))

    __rmul__ = __mul__

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms)) or "0"


def custom(function: Callable[[Tensor, Tensor], Tensor], name: str = "") -> Energy:
    """Any differentiable function of images (B, C, H, W) and code (B, ...) that gives one number per picture, (B,)."""
    name = name or getattr(function, "__name__", type(function).__name__)
    return Energy((Term(name, lambda images, code, seeds: function(images, code)),))


def clip(model: Any, text: str, copies: int = 8) -> Energy:
    """mean_l [1 - cos(f_I(augment_l(x)), f_T(text))], in [0, 2], for a `minidiff.nets.clip.Clip`; 0 copies: x as it is.

    Augmented copies are hard to please by patterns that nobody sees (the paper takes 50). Each chain draws its own from its
    seed and keeps them, so that its energy is one function. Raises ValueError for words that the model does not know.
    """
    if copies < 0:
        raise ValueError(f"copies: expected 0 or more, got {copies}")
    with torch.no_grad():
        (wanted,) = model.encode_text(text)  # (D,)

    def measure(images: Tensor, code: Tensor, seeds: Tensor) -> Tensor:
        many = [augment(images, seeds, f"copy {k}") for k in range(copies)] or [images]
        cosine = model.encode_images(seen(torch.cat(many))) @ wanted  # (copies B,)
        return 1 - cosine.reshape(-1, len(images)).mean(0)

    return Energy((Term(f"clip: {text}", measure),))


def identity(network: Callable[[Tensor], Tensor], references: Tensor) -> Energy:
    """mean_r [1 - cos(R(x), R(reference_r))], in [0, 2]: the individual of the pictures `references` (R, C, H, W).

    `network` R turns pictures into vectors (B, D) that point one way for one individual.
    """
    with torch.no_grad():
        known = F.normalize(network(references), dim=1)  # (R, D)

    def measure(images: Tensor, code: Tensor, seeds: Tensor) -> Tensor:
        return 1 - (F.normalize(network(seen(images).to(references.dtype)), dim=1) @ known.T).mean(1)

    return Energy((Term("identity", measure),))


def classifier(probe: Probe, name: str, wanted: int = 1) -> Energy:
    """-log p(wanted | x), in nats, of a class that the probe reads: glasses (1 is yes), species, ...

    Raises ValueError for a class that it does not read, naming those it does, or a number that the class does not have.
    """
    check_known(name, probe.config.classes)
    count = probe.config.classes[name]
    if not 0 <= wanted < count:
        raise ValueError(f"{name}: expected a number from 0 to {count - 1}, got {wanted}")

    def measure(images: Tensor, code: Tensor, seeds: Tensor) -> Tensor:
        _, logits = probe(seen(images).to(probe.mean.dtype))
        return -logits[name].log_softmax(1)[:, wanted]

    return Energy((Term(f"{name} = {wanted}", measure),))


def factor(probe: Probe, name: str, value: float | Sequence[float]) -> Energy:
    """0.5 |(f(x) - value) / std|^2 for a number (tilt, ...) or colour that the probe reads, std its spread in the world.

    With a weight that is a Gaussian wish, value +- std / sqrt(weight); of tilt it is the pose energy of GVP, in the plane.
    Raises ValueError for a factor that the probe does not read, naming those it does, or a value of another width.
    """
    check_known(name, probe.config.numbers)
    widths = list(probe.config.numbers.values())
    position = list(probe.config.numbers).index(name)
    mean, std = (part.split(widths)[position] for part in (probe.mean, probe.std))
    wanted = torch.as_tensor(value, dtype=mean.dtype, device=mean.device).reshape(-1)
    if wanted.shape != mean.shape or not wanted.isfinite().all():
        raise ValueError(f"{name}: expected {len(mean)} finite numbers, got {value}")

    def measure(images: Tensor, code: Tensor, seeds: Tensor) -> Tensor:
        standardised, _ = probe(seen(images).to(probe.mean.dtype))
        return 0.5 * (standardised.split(widths, dim=1)[position] - (wanted - mean) / std).square().sum(1)

    return Energy((Term(f"{name} = {value}", measure),))


def pixels(target: Tensor, mask: Tensor | float = 1.0) -> Energy:
    """0.5 sum mask (x - target)^2 over a picture, or over the region where mask is 1: Gaussian noise of std 1 / sqrt(weight).

    target (C, H, W), or (B, C, H, W) for a chain each; mask broadcasts to it.
    """

    def measure(images: Tensor, code: Tensor, seeds: Tensor) -> Tensor:
        return 0.5 * (mask * (images - target).square()).flatten(1).sum(1)

    return Energy((Term("pixels", measure),))


def code_prior() -> Energy:
    """0.5 |code|^2 once more than the prior has it: codes, and so pictures, nearer to the middle of the world."""

    def measure(images: Tensor, code: Tensor | None, seeds: Tensor) -> Tensor:
        if code is None:
            raise ValueError("code: the code prior is an energy of codes; got pictures without theirs")
        return 0.5 * code.square().flatten(1).sum(1)

    return Energy((Term("code prior", measure),))


def seen(images: Tensor) -> Tensor:
    """The pictures as they would be shown, in [-1, 1]: all that networks were trained on, and no reward beyond."""
    return images.clamp(-1, 1)


def check_known(name: str, known: Sequence[str]) -> None:
    """Raise ValueError for an attribute that is not known, with the nearest one and the list of all."""
    if name not in known:
        near = get_close_matches(name, list(known), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"energy: no attribute {name!r}; {hint}known are {', '.join(known) or 'none'}")
