"""Critters: exact factors, per-item streams, true counterfactuals, captions and maps."""

import dataclasses

import pytest
import torch

from minidiff.data.captions import captions
from minidiff.data.critters import COMMON_RATES, NAMES, RARE_RATES, Critters, render, semantic_map
from minidiff.data.factors import sample_factors
from minidiff.data.renderer import BLACK, PARTS


def test_pictures_are_in_range_and_of_the_stated_shape():
    critters = Critters("cat", length=100)
    images = critters[10:20]
    assert images.shape == (10, *critters.shape) and images.dtype == torch.float32
    assert images.min() >= -1 - 1e-6 and images.max() <= 1 + 1e-6
    assert torch.equal(critters[12], images[2])
    assert render(critters.factors(slice(0, 2)), size=37).shape == (2, 3, 37, 37)


def test_a_picture_depends_on_its_own_seed_only():
    critters = Critters("dog", length=1000, seed=5)
    whole = critters[0:70]
    assert torch.equal(critters[[69, 3]], whole[[69, 3]])
    assert torch.equal(Critters("dog", length=10, seed=5)[0:10], whole[:10])
    assert not torch.equal(Critters("dog", length=10, seed=6)[0:10], whole[:10])


def test_the_counterfactual_changes_only_what_it_says():
    factors = Critters("cat", seed=1).factors(slice(0, 8))
    dogs = factors.replace(species="dog")
    assert (dogs.species == NAMES.index("dog")).all()
    same = {name: torch.equal(value, getattr(dogs, name)) for name, value in factors.tensors().items()}
    assert [name for name, equal in same.items() if not equal] == ["species"]
    change = (render(dogs) - render(factors)).abs().amax(dim=1)  # (B, H, W)
    assert (change.flatten(1).amax(1) > 0.2).all()
    assert change[:, 0, [0, -1]].max() < 1e-6, "the upper corners are background for both"


def test_background_pixels_have_the_stated_colour():
    factors = Critters("wild", seed=3).factors(slice(0, 20))
    image = (render(factors) + 1) / 2
    axis = (0.5 / 64) * 2 - 1
    shade = 0.10 + 0.10 * axis
    expected = factors.background + shade * (torch.tensor(BLACK) - factors.background)
    torch.testing.assert_close(image[:, :, 0, 0], expected, atol=1e-5, rtol=0)


def test_position_is_where_the_head_is():
    factors = Critters("cat", seed=4).factors(slice(0, 200)).replace(tilt=0.0)
    head = ~torch.isin(semantic_map(factors), torch.tensor([PARTS.index("background")]))
    axis = (torch.arange(64) + 0.5) / 32 - 1
    centre = (head.float().mean(1) * axis).sum(1) / head.float().mean(1).sum(1)
    assert torch.corrcoef(torch.stack([centre, factors.x]))[0, 1] > 0.98
    assert torch.corrcoef(torch.stack([head.float().mean((1, 2)).sqrt(), factors.size]))[0, 1] > 0.9


@pytest.mark.parametrize("rates", [RARE_RATES, COMMON_RATES])
def test_rare_groups_occur_at_the_stated_rates(rates):
    factors = Critters(length=40_000, rates=rates).factors(slice(0, 40_000))
    for group, rate in rates.items():
        share = getattr(factors, group).float().mean().item()
        assert abs(share - rate) < 5 * (rate * (1 - rate) / 40_000) ** 0.5


def test_individuals_keep_their_identity_and_change_their_mood():
    factors = Critters("cat", individuals=5, length=200).factors(slice(0, 200))
    assert set(factors.individual.tolist()) == set(range(5))
    for who in range(5):
        mine = factors[factors.individual == who]
        assert (mine.coat == mine.coat[0]).all() and (mine.pattern == mine.pattern[0]).all()
        assert mine.smile.std() > 0.2 and mine.background.std(0).max() > 0.05


def test_individuals_can_be_met_in_another_set_by_their_numbers():
    few, same = Critters(individuals=range(4, 10, 3), length=60, seed=1), Critters(individuals=8, length=60, seed=9)
    one, other = few.factors(slice(0, 60)), same.factors(slice(0, 60))
    assert set(one.individual.tolist()) == {4, 7}
    for who in (4, 7):
        mine, theirs = one[one.individual == who], other[other.individual == who]
        assert (mine.coat == theirs.coat[0]).all() and (mine.species == theirs.species[0]).all()
    for nobody in (0, range(3, 3)):
        with pytest.raises(ValueError, match="individuals: expected at least 1 or None, got "):
            Critters(individuals=nobody)


def test_pictures_are_differentiable_in_their_factors():
    factors = sample_factors(torch.arange(3), "cat")
    x = factors.x.clone().requires_grad_()
    render(dataclasses.replace(factors, x=x)).square().sum().backward()
    assert x.grad.isfinite().all() and (x.grad != 0).all()


def test_captions_follow_the_grammar():
    factors = (
        Critters("cat", seed=9)
        .factors(slice(0, 4))
        .replace(smile=1.0, pattern=1, coat=(0.90, 0.52, 0.20), background=(0.40, 0.66, 0.42), baby=False)
    )
    dressed = factors.replace(glasses=True, hat=True, hat_colour=(0.15, 0.32, 0.85))
    assert captions(dressed)[0] == "a smiling striped orange cat wearing glasses and a blue hat on a green background"
    bare = factors.replace(glasses=False, hat=False, smile=0.0, pattern=0)
    assert captions(bare)[0] == "an orange cat on a green background"


def test_the_map_shows_what_is_worn():
    factors = Critters("dog", seed=2).factors(slice(0, 6)).replace(glasses=True, hat=False)
    parts = semantic_map(factors)
    assert parts.shape == (6, 64, 64)
    assert (parts == PARTS.index("glasses")).flatten(1).any(1).all()
    assert not (parts == PARTS.index("hat")).any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Critters("horse"), "known species are cat, dog, wild"),
        (lambda: Critters("cat", rates={"monocle": 0.1}), "glasses, hat, baby"),
        (lambda: Critters("cat", rates={"hat": 1.5}), "rates in"),
        (lambda: Critters("cat", length=0), "length"),
        (lambda: Critters("cat", length=10).factors(0).replace(colour=1.0), "no factor named"),
        (lambda: Critters("cat", length=10).factors(0).replace(species="horse"), "known species"),
        (lambda: render(Critters("cat").factors(0), size=2), "at least 8"),
    ],
)
def test_bad_input_says_what_would_be_right(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_index_outside_the_set_is_refused():
    with pytest.raises(IndexError):
        Critters("cat", length=10)[10]
