"""Individuals by number, their margin, and a tiny identity network from training to the zoo and into an energy."""

import dataclasses
from functools import partial

import pytest
import torch

from minidiff import energies, energy_words, zoo
from minidiff.data.critters import Critters
from minidiff.nets.identity import IdentityNet, angular_margin
from minidiff.nets.probe import augment
from minidiff.training.bank import to_images
from minidiff.training.export import export
from minidiff.training.loop import train
from minidiff.training.recipes import RECIPES
from minidiff.worlds import write_pictures


def test_the_bank_numbers_the_individuals_from_0(identity_recipe):
    bank, pictures = identity_recipe.bank(), identity_recipe.pictures()
    who = pictures.factors(slice(0, 48)).individual
    assert set(who.tolist()) == {40, 42, 44, 46} and torch.equal(bank["individual"], (who - 40) // 2)
    part = identity_recipe.rows(pictures, range(1, 48, 2))
    assert torch.equal(part["individual"], bank["individual"][1::2])


def test_the_loss_is_the_margin_on_rough_pictures_and_grows_at_first(identity_recipe):
    torch.manual_seed(0)
    network, bank, seeds = identity_recipe.network(), identity_recipe.bank(), torch.arange(48)
    cosines = network(augment(to_images(bank["images"]), seeds))
    for part, margin in ((0.0, 0.0), (0.1, 0.15), (0.2, 0.3), (0.9, 0.3)):
        expected = angular_margin(cosines, bank["individual"], margin, 30.0)
        torch.testing.assert_close(identity_recipe.loss(network, bank, seeds, part), expected)
    few = {name: rows[10:13] for name, rows in bank.items()}
    torch.testing.assert_close(identity_recipe.loss(network, few, seeds[10:13], 0.9), expected[10:13])
    at_once = dataclasses.replace(identity_recipe, ease=0.0)
    torch.testing.assert_close(at_once.loss(network, bank, seeds), expected)


def test_pictures_of_strangers_are_refused(identity_recipe):
    recipe = dataclasses.replace(identity_recipe, pictures=partial(Critters, length=8, size=16))
    for call in (recipe.network, recipe.bank):
        with pytest.raises(ValueError, match=r"pictures: expected those of known individuals, .* got strangers"):
            call()


def test_from_training_to_the_zoo_and_into_an_energy(identity_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    recipe = dataclasses.replace(identity_recipe, steps=40, ease=0.0)
    steps = list(train(recipe, tmp_path / "run", cpu=True, command="minidiff train tiny-identity"))
    assert sum(step.loss for step in steps[-5:]) < 0.9 * sum(step.loss for step in steps[:5])
    export(tmp_path / "run", chosen=recipe)
    entry, network = zoo.describe("tiny-identity"), zoo.load("tiny-identity")
    assert type(network) is IdentityNet and not network.training and entry["kind"] == "identity"
    kept = sum(weight.numel() for weight in network.parameters())
    assert entry["parameters"] == kept  # the directions of those it was trained on are left behind
    assert recipe.figures(network) == pytest.approx(entry["figures"], abs=1e-4)
    figures = entry["figures"]
    assert 0 <= figures["held_out_equal_error_rate"] <= 0.5 and figures["held_out_individuals"] == 4
    assert figures["held_out_median_cosine_of_one_individual"] > figures["held_out_median_cosine_of_two_individuals"]

    pictures = recipe.held_out()[:4]
    (someone,) = write_pictures(pictures[:1], tmp_path)
    energy = energy_words.energy(f"2 * identity: {someone}", identity="tiny-identity")
    expected = 2 * energies.identity(network, pictures[:1])(pictures, pictures)
    torch.testing.assert_close(energy(pictures, pictures), expected, rtol=0, atol=0.02)  # a file has 256 levels


def test_the_recipe_judges_on_individuals_that_it_never_met():
    recipe = RECIPES["critters-identity"]
    pictures, held_out = recipe.pictures(), recipe.held_out()
    assert (pictures.species, pictures.seed, held_out.seed) == ("all", 109, 2) and pictures.rates["hat"] == 0.15
    assert not {*pictures.individuals} & {*held_out.individuals} and len(held_out.individuals) == 200
    assert pictures.individuals.start > 10**9  # nor with those of Critters(..., individuals=N)
    assert set(pictures.factors(slice(0, 50)).individual.tolist()) <= {*pictures.individuals}
    size = sum(weight.numel() for weight in recipe.kept(recipe.network()).parameters())
    assert 500_000 < size < 1_000_000
