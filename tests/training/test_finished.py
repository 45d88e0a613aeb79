"""Models straight from their runs: the same as from the zoo, but for the rounding of weights."""

import dataclasses

import pytest
import torch

from minidiff import zoo
from minidiff.families import VAE
from minidiff.generators import LatentDiffusion
from minidiff.nets.vae import VAEConfig
from minidiff.training.export import export
from minidiff.training.finished import finished
from minidiff.training.loop import train
from minidiff.training.recipes import RECIPES
from minidiff.training.vaes import VAERecipe


def test_a_model_of_its_run_is_that_of_the_zoo(autoencoder_recipe, denoiser_recipe, common, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "zoo")
    vae = VAERecipe(
        name="tiny-vae", seed=11, config=VAEConfig(3, 16, code=8, encoder=(8, 16), decoder=(16, 8, 8)), **common
    )
    for recipe in (autoencoder_recipe, denoiser_recipe, vae):
        monkeypatch.setitem(RECIPES, recipe.name, recipe)
        list(train(recipe, tmp_path / recipe.name, cpu=True))
        export(tmp_path / recipe.name)
    for name, kind in {"tiny-denoiser": LatentDiffusion, "tiny-vae": VAE}.items():
        ours, exported = finished(name, tmp_path), zoo.load(name)
        assert type(ours) is kind is type(exported) and ours.image_shape == exported.image_shape
        torch.testing.assert_close(ours.sample(2), exported.sample(2), rtol=0, atol=0.02)
    with pytest.raises(
        zoo.UnknownModel, match="no finished run in .*tiny-other; `minidiff train tiny-other` makes one"
    ):
        finished("tiny-other", tmp_path)
    changed = dataclasses.replace(autoencoder_recipe, seed=5)
    list(train(changed, tmp_path / "again", cpu=True))
    export(tmp_path / "again", chosen=changed)
    with pytest.raises(ValueError, match="tiny-denoiser was trained on another tiny-autoencoder"):
        finished("tiny-denoiser", tmp_path)
