"""Species between two, as a set of pictures."""

from dataclasses import astuple

import pytest
import torch

from minidiff.data.critters import COMMON_RATES, Critters
from minidiff.data.relatives import Relatives
from minidiff.data.species import SPECIES, mixed
from minidiff.training.relatives import RELATIVES


def test_a_mixture_lies_between_and_ends_at_the_two():
    assert mixed("cat", "dog", 0.0) == SPECIES["cat"]
    assert astuple(mixed("cat", "dog", 1.0)) == pytest.approx(astuple(SPECIES["dog"]))
    assert mixed("cat", "dog", 0.25).head_width == pytest.approx(0.75 * 1.05 + 0.25 * 0.94)
    with pytest.raises(ValueError, match="amount: expected a number in"):
        mixed("cat", "dog", 1.5)
    with pytest.raises(ValueError, match="there is no 'cow'"):
        mixed("cat", "cow", 0.5)


def test_the_ends_are_drawn_as_ever_and_the_middle_between():
    pictures = {a: Relatives(amount=a, size=16, length=4, seed=2)[:] for a in (0.0, 0.5, 1.0)}
    cats, dogs = (Critters(name, size=16, length=4, seed=2, rates=COMMON_RATES)[:] for name in ("cat", "dog"))
    assert torch.equal(pictures[0.0], cats)
    torch.testing.assert_close(pictures[1.0], dogs)
    to_cats, to_dogs = ((pictures[0.5] - ends).square().mean() for ends in (cats, dogs))
    apart = (cats - dogs).square().mean()
    assert 0 < to_cats < apart and 0 < to_dogs < apart


def test_strangers_stand_on_their_heads():
    upright, turned = (Relatives(amount=1.0, turned=t, size=16, length=3) for t in (False, True))
    assert torch.equal(turned[:].flip(2), upright[:]) and turned[1].shape == (3, 16, 16)


def test_recipes_differ_in_pictures_and_seed_alone():
    for kind in ("denoiser", "vae", "flow", "gan"):
        first, *others = [recipe.fields() for recipe in RELATIVES if recipe.kind == kind]
        assert others
        for fields in others:
            assert {key for key in fields if fields[key] != first[key]} <= {
                "name",
                "pictures",
                "held_out",
                "seed",
                "stages",
            }
    assert len({recipe.seed for recipe in RELATIVES}) == len(RELATIVES)
    assert RELATIVES[-1].held_out()[0].shape == (3, 64, 64)
