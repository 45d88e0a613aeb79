"""Captions for critters, from a small grammar: "a smiling striped orange cat wearing a blue hat on a green background".

caption = "a" [baby] [mood] [pattern] [coat] species ["wearing" things] ["on a" background "background"]
mood = smiling | sad        things = glasses | a HAT hat | glasses and a HAT hat

Between a picture's factors and its sentence stand its attributes, a dict of the choices that the grammar has:
factors -> `attributes_of` -> `compose` -> caption, and back again: caption -> `parse` -> `factors_of`. An edit is then
`compose(parse(caption) | {"mood": "sad"})`, and its true counterfactual `factors.replace(**factors_of(...))`.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from minidiff.data.factors import BACKGROUNDS, COATS, HATS, PATTERNS, Factors, nearest
from minidiff.data.species import NAMES
from minidiff.seeds import uniform

MOOD = 0.35  # |smile| above this is worth a word
ATTRIBUTES: dict[str, tuple] = {
    "species": NAMES,
    "coat": (*COATS, None),
    "pattern": PATTERNS,
    "mood": ("neutral", "smiling", "sad"),
    "baby": (False, True),
    "glasses": (False, True),
    "hat": (None, *HATS),
    "background": (*BACKGROUNDS, None),
}
OPTIONAL = ("coat", "background")  # None: nothing is said of it, it may be any
UNSAID = ("plain", "neutral")  # a plain coat and a straight mouth get no word
OTHER_WORDS = {  # that people try, and what the grammar has in their place
    "kitten": "baby cat", "puppy": "baby dog", "fox": "wild", "happy": "smiling", "unhappy": "sad", "ginger": "orange",
    "young": "baby", "with": "wearing", "cap": "hat", "the": "a",
}  # fmt: skip


def captions(factors: Factors) -> list[str]:
    """One sentence per picture, with everything that can be said."""
    return [compose(attributes) for attributes in attributes_of(factors)]


def short_captions(factors: Factors, seeds: Tensor, silent: float = 0.1) -> list[str]:
    """The same, but each of OPTIONAL is left out of one sentence in ten: what people type is shorter than what is true."""
    left_out = (uniform(seeds, (len(OPTIONAL),), "left out") < silent).tolist()
    return [
        compose(attributes | {name: None for name, out in zip(OPTIONAL, row) if out})
        for attributes, row in zip(attributes_of(factors), left_out, strict=True)
    ]


def attributes_of(factors: Factors) -> list[dict[str, Any]]:
    """What the grammar can say of each picture; a colour is named by the nearest one of its palette."""
    smiles, hats = factors.smile.tolist(), _nearest(factors.hat_colour, HATS)
    columns = {
        "species": [NAMES[i] for i in factors.species.tolist()],
        "coat": _nearest(factors.coat, COATS),
        "pattern": [PATTERNS[i] for i in factors.pattern.tolist()],
        "mood": ["smiling" if smile > MOOD else "sad" if smile < -MOOD else "neutral" for smile in smiles],
        "baby": factors.baby.tolist(),
        "glasses": factors.glasses.tolist(),
        "hat": [hat if worn else None for hat, worn in zip(hats, factors.hat.tolist())],
        "background": _nearest(factors.background, BACKGROUNDS),
    }
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def factors_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes -> changes for `Factors.replace`, to the middle of what each word means; some attributes will do.

    Raises ValueError as `compose` does, save that nothing has to be there.
    """
    _check(attributes)
    changes = {name: attributes[name] for name in ("species", "baby", "glasses") if name in attributes}
    for name, palette in (("coat", COATS), ("background", BACKGROUNDS)):
        changes |= {name: palette[attributes[name]]} if attributes.get(name) else {}
    if "pattern" in attributes:
        changes["pattern"] = PATTERNS.index(attributes["pattern"])
    if "mood" in attributes:
        changes["smile"] = {"neutral": 0.0, "smiling": (1 + MOOD) / 2, "sad": -(1 + MOOD) / 2}[attributes["mood"]]
    if "hat" in attributes:
        changes["hat"] = attributes["hat"] is not None
        changes |= {"hat_colour": HATS[attributes["hat"]]} if changes["hat"] else {}
    return changes


def compose(attributes: Mapping[str, Any]) -> str:
    """The sentence that says all `ATTRIBUTES`. Raises ValueError for a missing or unknown one, or an unknown value."""
    _check(attributes)
    if missing := set(ATTRIBUTES) - set(attributes):
        raise ValueError(f"attributes: missing {', '.join(sorted(missing))}; a sentence needs {', '.join(ATTRIBUTES)}")
    said = {name: value for name, value in attributes.items() if value not in UNSAID}
    things = ["glasses"] * said["glasses"] + ([f"a {said['hat']} hat"] if said["hat"] else [])
    words = ["a", "baby" if said["baby"] else "", said.get("mood"), said.get("pattern"), said["coat"], said["species"]]
    words += ["wearing", " and ".join(things)] if things else []
    words += ["on a", said["background"], "background"] if said["background"] else []
    return with_articles(" ".join(word for word in words if word))


def parse(caption: str) -> dict[str, Any]:
    """The attributes that a caption says, with "a" or "an", in any case and with or without a full stop.

    Raises ValueError for a word outside the grammar, with the nearest known one, and for a sentence outside it.
    """
    said = words(caption)

    def one_of(choices: tuple, default: str | None = None) -> str | None:
        return next((word for word in said if word in choices), default)

    def before(noun: str | None) -> str | None:
        place = said.index(noun) if noun in said else 0
        return said[place - 1] if place else None

    coat = before(one_of(NAMES))
    found = {
        "species": one_of(NAMES),
        "coat": coat if coat in COATS else None,
        "pattern": one_of(PATTERNS, "plain"),
        "mood": one_of(ATTRIBUTES["mood"], "neutral"),
        "baby": "baby" in said,
        "glasses": "glasses" in said,
        "hat": before("hat"),
        "background": before("background"),
    }
    try:
        closest = compose(found)
    except ValueError as error:
        raise ValueError(f"caption: {caption!r} is not a sentence of the grammar: {error}") from None
    if words(closest) != said:
        raise ValueError(f"caption: {caption!r} is not a sentence of the grammar; did you mean {closest!r}?")
    return found


def words(caption: str) -> list[str]:
    """The words of a text, in lower case, with "an" as "a".

    Raises ValueError for one that the grammar does not have, with what it says in its place or the nearest word; where that
    is far, with all words.
    """
    if not isinstance(caption, str):
        raise TypeError(f"caption: expected a string, got {type(caption).__name__}: {caption!r}")
    found = ["a" if word == "an" else word for word in caption.lower().strip().removesuffix(".").split()]
    for word in found:
        if word not in VOCABULARY:
            near = OTHER_WORDS.get(word) or difflib.get_close_matches(word, VOCABULARY, n=1, cutoff=0.0)[0]
            far = word not in OTHER_WORDS and not difflib.get_close_matches(word, VOCABULARY, n=1)
            known = f" Known are {', '.join(VOCABULARY)}" if far else ""
            raise ValueError(
                f"caption: no word {word!r} in the grammar; did you mean {near!r}?{known} (in {caption!r})"
            )
    return found


def with_articles(sentence: str) -> str:
    """Every "a" before a vowel becomes "an"."""
    said = sentence.split()
    return " ".join(
        "an" if word == "a" and after[:1] in tuple("aeiou") else word for word, after in zip(said, [*said[1:], ""])
    )


def _check(attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if name not in ATTRIBUTES:
            raise ValueError(f"attributes: there is no {name!r}; there are {', '.join(ATTRIBUTES)}")
        if value not in ATTRIBUTES[name]:
            raise ValueError(f"{name}: expected one of {', '.join(map(str, ATTRIBUTES[name]))}, got {value!r}")


def _nearest(colours: Tensor, palette: dict[str, tuple]) -> list[str]:
    return [list(palette)[i] for i in nearest(colours, palette).tolist()]


def _vocabulary() -> tuple[str, ...]:
    """Every word that `compose` can say, found by letting it say them: one sentence per value of each attribute."""
    bare = {name: values[0] for name, values in ATTRIBUTES.items()}
    dressed = bare | {"baby": True, "glasses": True, "hat": ATTRIBUTES["hat"][-1]}
    said = [
        compose(start | {name: value}) for start in (bare, dressed) for name in ATTRIBUTES for value in ATTRIBUTES[name]
    ]
    found = [word for sentence in said for word in sentence.split() if word != "an"]
    return tuple(dict.fromkeys(found))  # each once, in the order of the tables


VOCABULARY = _vocabulary()
