"""The recipes of the other families: their losses by item, a few steps of training, and the way into the zoo and back."""

import json

import pytest
import torch

from minidiff import zoo
from minidiff.families import FAMILIES
from minidiff.nets.vae import VAEConfig
from minidiff.training.export import export
from minidiff.training.loop import train
from minidiff.training.vaes import VAERecipe


@pytest.fixture
def recipes(common):
    vae = VAEConfig(3, 16, code=8, encoder=(8, 16), decoder=(16, 8, 8))
    return {"vae": VAERecipe(name="tiny-vae", config=vae, seed=11, **common)}


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_loss_of_an_item_does_not_depend_on_its_batch(recipes, kind):
    recipe = recipes[kind]
    network, bank, seeds = recipe.network(), recipe.bank(), torch.arange(48)
    whole = recipe.loss(network, bank, seeds)
    part = recipe.loss(network, {name: rows[10:13] for name, rows in bank.items()}, seeds[10:13])
    assert whole.shape == (48,) and whole.std() > 0
    torch.testing.assert_close(whole[10:13], part, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_from_training_to_the_zoo_and_back(recipes, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    recipe = recipes[kind]
    losses = [step.loss for step in train(recipe, tmp_path / "run", cpu=True, command=f"minidiff train {recipe.name}")]
    assert len(losses) == recipe.steps
    export(tmp_path / "run", chosen=recipe)

    entry, model = zoo.describe(recipe.name), zoo.load(recipe.name)
    assert type(model) is FAMILIES[kind] and entry["kind"] == kind
    assert entry["figures"].pop("held_out_pictures") == 20 and all(map(float, entry["figures"].values()))
    assert json.loads(json.dumps(recipe.fields()))["config"] == entry["config"]
    modules = (model.autoencoder, model.network)
    assert not any(module.training or any(p.requires_grad for p in module.parameters()) for module in modules)
    assert model.sample(2).shape == (2, 3, 16, 16)
