"""The grammar: sentences, what they say of the factors, and the way back."""

import pytest
import torch

from minidiff.data.captions import (
    ATTRIBUTES,
    OPTIONAL,
    attributes_of,
    captions,
    compose,
    factors_of,
    parse,
    short_captions,
    words,
)
from minidiff.data.critters import COMMON_RATES, Critters

ORANGE = {
    "species": "cat", "coat": "orange", "pattern": "striped", "mood": "smiling", "baby": True, "glasses": True,
    "hat": "blue", "background": "green",
}  # fmt: skip


@pytest.fixture(scope="module")
def factors():
    return Critters(length=3000, seed=4, rates=COMMON_RATES | {"baby": 0.2}).factors(slice(0, 3000))


def test_sentences():
    dressed = "a baby smiling striped orange cat wearing glasses and a blue hat on a green background"
    assert compose(ORANGE) == dressed and parse(dressed) == ORANGE
    bare = ORANGE | {"pattern": "plain", "mood": "neutral", "baby": False, "glasses": False, "hat": None}
    assert compose(bare) == "an orange cat on a green background"
    assert compose(bare | {"hat": "red"}) == "an orange cat wearing a red hat on a green background"
    assert compose(bare | {"glasses": True}) == "an orange cat wearing glasses on a green background"


def test_parsing_undoes_composing(factors):
    attributes = attributes_of(factors)
    assert [parse(caption) for caption in captions(factors)] == attributes
    for name, values in ATTRIBUTES.items():
        said = set(values) - ({None} if name in OPTIONAL else set())
        assert {row[name] for row in attributes} == said  # so every value has been there and back


def test_an_edited_caption_is_the_caption_of_the_counterfactual(factors):
    some, before = factors[:50], attributes_of(factors[:50])
    for name, values in ATTRIBUTES.items():
        for value in values if name not in OPTIONAL else values[:-1]:
            after = attributes_of(some.replace(**factors_of({name: value})))
            assert after == [row | {name: value} for row in before], (name, value)


def test_colours_may_go_unsaid(factors):
    assert parse("a cat") == {name: False for name in ("baby", "glasses")} | {
        "species": "cat", "coat": None, "pattern": "plain", "mood": "neutral", "hat": None, "background": None,
    }  # fmt: skip
    assert parse("a sad striped dog wearing glasses")["coat"] is None and factors_of({"coat": None}) == {}
    full, short = captions(factors), short_captions(factors, torch.arange(len(factors)))
    assert (
        short
        == short_captions(factors, torch.arange(len(factors)))
        != short_captions(factors, torch.arange(1, 1 + len(factors)))
    )
    for long, brief in zip(full, short):
        kept = {name: value for name, value in parse(brief).items() if value is not None}
        assert parse(long) | kept == parse(long)
    for name in OPTIONAL:
        assert 0.05 < sum(parse(brief)[name] is None for brief in short) / len(short) < 0.15


def test_all_changes_at_once(factors):
    assert attributes_of(factors[:3].replace(**factors_of(ORANGE))) == [ORANGE] * 3
    assert factors_of({}) == {} and factors_of({"hat": None}) == {"hat": False}


def test_colours_are_named_by_the_nearest_of_the_palette(factors):
    shaded = factors[:1].replace(coat=(0.88, 0.55, 0.25), background=(0.30, 0.45, 0.80), smile=0.36)
    (row,) = attributes_of(shaded)
    assert (row["coat"], row["background"], row["mood"]) == ("orange", "blue", "smiling")
    assert attributes_of(shaded.replace(smile=torch.tensor([-0.34])))[0]["mood"] == "neutral"


def test_case_articles_and_the_full_stop_make_no_difference():
    assert parse("  A Orange cat ON an green background. ") == parse("an orange cat on a green background")
    assert words("An orange cat.") == ["a", "orange", "cat"]


@pytest.mark.parametrize(
    "caption, message",
    [
        ("", "species: expected one of cat, dog, wild, got None"),
        ("an orange cat on a white background", "background: expected one of red, .*, got 'white'"),
        ("orange cat on a red background", "did you mean 'an orange cat on a red background'"),
        (
            "a striped baby orange cat on a red background",
            "did you mean 'a baby striped orange cat on a red background'",
        ),
        ("an orange cat wearing and a red hat on a red background", "did you mean 'an orange cat wearing a red hat on"),
        ("an orange cat and a dog on a red background", "did you mean 'an orange cat on a red background'"),
        ("an orange cat on a red background on a blue background", "did you mean 'an orange cat on a red background'"),
        ("a smiling sad orange cat on a red background", "did you mean 'a smiling orange cat on a red background'"),
        ("an orange catt on a red background", "no word 'catt' in the grammar; did you mean 'cat'"),
    ],
)
def test_what_the_grammar_cannot_say_is_refused(caption, message):
    with pytest.raises(ValueError, match=message):
        parse(caption)


def test_bad_attributes_are_refused():
    with pytest.raises(ValueError, match="missing coat, hat; a sentence needs species, coat"):
        compose({name: value for name, value in ORANGE.items() if name not in ("coat", "hat")})
    with pytest.raises(ValueError, match="there is no 'colour'; there are species, coat"):
        compose(ORANGE | {"colour": "red"})
    with pytest.raises(ValueError, match="mood: expected one of neutral, smiling, sad, got 'happy'"):
        factors_of({"mood": "happy"})
    with pytest.raises(TypeError, match="caption: expected a string, got list"):
        parse(["a cat"])
