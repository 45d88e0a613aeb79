"""Captions for critters, from a small grammar: "a smiling striped orange cat wearing a blue hat on a green background".

caption = "a" [baby] [mood] [pattern] coat species ["wearing" things] "on a" background "background"
mood = smiling | sad        things = glasses | a HAT hat | glasses and a HAT hat
"""

from torch import Tensor

from minidiff.data.factors import BACKGROUNDS, COATS, HATS, PATTERNS, Factors, nearest
from minidiff.data.species import NAMES

MOOD = 0.35  # |smile| above this is worth a word


def captions(factors: Factors) -> list[str]:
    """One sentence per picture. A plain coat and a straight mouth go unsaid; colours are named by the nearest palette colour."""
    coats, backgrounds = _name(factors.coat, COATS), _name(factors.background, BACKGROUNDS)
    hats = _name(factors.hat_colour, HATS)
    sentences = []
    for i in range(len(factors)):
        smile, pattern = factors.smile[i].item(), PATTERNS[factors.pattern[i]]
        words = ["a"]
        words += ["baby"] if factors.baby[i] else []
        words += ["smiling"] if smile > MOOD else ["sad"] if smile < -MOOD else []
        words += [pattern] if pattern != "plain" else []
        words += [coats[i], NAMES[factors.species[i]]]
        things = ["glasses"] * bool(factors.glasses[i]) + [f"a {hats[i]} hat"] * bool(factors.hat[i])
        words += ["wearing " + " and ".join(things)] if things else []
        sentences.append(_article(" ".join(words)) + f" on a {backgrounds[i]} background")
    return sentences


def _article(sentence: str) -> str:
    return "an" + sentence[1:] if sentence[2] in "aeiou" else sentence


def _name(colours: Tensor, palette: dict[str, tuple]) -> list[str]:
    return [list(palette)[i] for i in nearest(colours, palette).tolist()]
