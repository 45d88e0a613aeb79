"""Edits whose right answer is known: one thing changes, in the caption as in the picture."""

import pytest
import torch

from minidiff.data.captions import attributes_of, parse
from minidiff.data.critters import render
from minidiff.data.edits import KINDS, edits, one_change


@pytest.fixture(scope="module")
def some():
    return edits(6, seed=3, size=16)


def test_one_attribute_changes_and_the_truth_shows_it(some):
    assert len(some) == 36 and some.kinds == [kind for kind in KINDS for _ in range(6)]
    assert attributes_of(some.factors) == some.before and torch.equal(render(some.factors, 16), some.images)
    for before, after, name, source, target in zip(some.before, some.after, some.changed, some.source, some.target):
        assert [key for key in before if before[key] != after[key]] == [name]
        assert parse(source) == before and parse(target) == after
    assert (some.truth - some.images).abs().flatten(1).amax(1).min() > 0.1


def test_each_kind_does_what_it_says(some):
    for kind, name, before, after in zip(some.kinds, some.changed, some.before, some.after):
        if kind.startswith("accessory"):
            assert name in ("glasses", "hat")
            assert bool(before[name]) == (kind == "accessory removed") and bool(after[name]) == (
                kind == "accessory added"
            )
        else:
            assert name == {"expression": "mood"}.get(kind, kind) and after[name] not in (None, "neutral")


def test_no_picture_twice_and_the_same_again(some):
    assert len({tuple(image.flatten().tolist()) for image in some.images}) == len(some)
    again = edits(6, seed=3, size=16)
    assert again.target == some.target and torch.equal(again.truth, some.truth)
    assert edits(6, seed=4, size=16).target != some.target


def test_what_cannot_be_done_is_not_tried():
    bare = parse("an orange cat on a red background")
    assert one_change("accessory removed", bare, 0.5, 0.5) is None
    assert one_change("accessory added", bare | {"glasses": True}, 0.2, 0.5) is None
    assert one_change("accessory added", bare, 0.9, 0.01)[0] == "hat"
    with pytest.raises(ValueError, match="kinds: expected some of species, coat"):
        edits(1, seed=0, kinds=("size",))
