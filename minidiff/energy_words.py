"""Energies in words, as one types them: "clip: a cat wearing glasses", "tilt = 0.3", "no hat", "300 * clip: a dog + glasses",
"identity: someone.png".

A sentence is a sum of terms, each with its weight in front or, without one, that of its kind in WEIGHTS.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from minidiff import energies
from minidiff.data.factors import BACKGROUNDS, COATS, EYES, HATS, PATTERNS
from minidiff.data.fashion import CLASSES
from minidiff.data.species import NAMES
from minidiff.energies import Energy, check_known
from minidiff.nets.identity import IdentityNet
from minidiff.nets.probe import Probe
from minidiff.worlds import read_images
from minidiff.zoo import load, load_clip

# Inverse temperatures: the paper's for CLIP and classifiers; a number as wished up to a tenth of its spread in the world.
# Individuals as CLIP, whose energy has the same range; the paper takes 2500 for them, at a tenth of the step size.
WEIGHTS = {"clip": 500.0, "classifier": 5.0, "factor": 100.0, "identity": 500.0}
COLOURS = {"coat": COATS, "eye": EYES, "background": BACKGROUNDS}
CLASS_WORDS = {"species": NAMES, "pattern": PATTERNS, "hat_colour": ("none", *HATS), "label": CLASSES}
WEIGHTED = re.compile(r"([0-9.]+(?:e[+-]?\d+)?)\s*\*\s*(.+)", re.DOTALL)


def energy(
    words: str,
    probe: str | Probe = "critters-probe",
    clip: Any = "critters-clip",
    identity: str | IdentityNet = "critters-identity",
    copies: int = 8,
    device: str = "cpu",
) -> Energy:
    """The energy that a sentence asks for: terms joined by " + ", each "[WEIGHT *] TERM".

    TERM is "clip: TEXT" (see `energies.clip` for `copies`), "identity: PICTURE" for the individual in an image file, or in all
    those of a folder, "NAME = VALUE" for a number, colour or class that the probe reads, or "NAME" and "no NAME" for a class
    of yes and no. `probe`, `clip` and `identity` are networks, or names for `zoo.load` and `zoo.load_clip`; only those that a
    term needs are loaded. Raises ValueError for what is not understood, with the known attributes, FileNotFoundError for a
    picture that is not there.
    """
    judge = cache(lambda: load(probe, device) if isinstance(probe, str) else probe)
    model = cache(lambda: load_clip(clip, device) if isinstance(clip, str) else clip)
    acquaintance = cache(lambda: load(identity, device) if isinstance(identity, str) else identity)
    return sum((term(part, judge, model, acquaintance, copies) for part in re.split(r"\s\+\s", words)), Energy())


def term(
    words: str,
    judge: Callable[[], Probe],
    model: Callable[[], Any],
    acquaintance: Callable[[], IdentityNet],
    copies: int,
) -> Energy:
    """One term of a sentence; the networks are fetched only if it needs them."""
    words = words.strip()
    if weighted := WEIGHTED.fullmatch(words):
        weight, words = number("weight", weighted[1]), weighted[2].strip()
    else:
        weight = None
    kind, _, text = (part.strip() for part in words.partition(":"))
    if kind == "clip" and text:
        found = energies.clip(model(), text, copies)
    elif kind == "identity" and text:
        found = individual(acquaintance, text)
    else:
        kind, found = attribute(judge(), words)
    (only,) = (found * (WEIGHTS[kind] if weight is None else weight)).terms
    return Energy((replace(only, name=words),))


def individual(acquaintance: Callable[[], IdentityNet], path: str) -> Energy:
    """The energy of "identity: PATH". Raises FileNotFoundError for no such path, ValueError for a network of another kind."""
    if not Path(path).exists():
        raise FileNotFoundError(
            f"identity: expected a picture, or a folder of pictures, of someone; there is no {path!r}"
        )
    network = acquaintance()
    if not isinstance(network, IdentityNet):
        raise ValueError(
            f"identity: expected a network that knows individuals, such as critters-identity, got a {type(network).__name__}"
        )
    references = read_images([path], network.config.shape)
    return energies.identity(network, references.to(network.project.weight))


def attribute(probe: Probe, words: str) -> tuple[str, Energy]:
    """The kind and the energy of "NAME = VALUE", "NAME" or "no NAME"."""
    config = probe.config
    name, equals, value = (part.strip() for part in words.partition("="))
    if not equals:
        name, value = (name.removeprefix("no "), "no") if name.startswith("no ") else (name, "yes")
    check_known(name, [*config.numbers, *config.classes, "clip: TEXT", "identity: PICTURE"])
    if not equals and config.classes.get(name) != 2:
        raise ValueError(f"energy: {name} is not a matter of yes and no; say {name} = {options(probe, name)}")
    if name in config.classes:
        return "classifier", energies.classifier(probe, name, choice(name, class_words(probe, name), value))
    if config.numbers[name] == 1:
        return "factor", energies.factor(probe, name, number(name, value))
    choice(name, tuple(COLOURS[name]), value)
    return "factor", energies.factor(probe, name, COLOURS[name][value])


def class_words(probe: Probe, name: str) -> tuple[str, ...]:
    """What the values of a class are called, in their order; "no" and "yes" for a class of two without names."""
    return CLASS_WORDS.get(name, ("no", "yes"))


def options(probe: Probe, name: str) -> str:
    """What may stand after "NAME =", for messages."""
    if name in probe.config.classes:
        return " | ".join(class_words(probe, name))
    return " | ".join(COLOURS[name]) if name in COLOURS else "NUMBER"


def choice(name: str, words: tuple[str, ...], value: str) -> int:
    """The position of a value among the words for it. Raises ValueError, naming them all, for another word."""
    if value not in words:
        raise ValueError(f"{name}: expected one of {', '.join(words)}, got {value!r}")
    return words.index(value)


def number(name: str, text: str) -> float:
    """A number as one types it. Raises ValueError naming what it was for."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number, got {text!r}") from None
