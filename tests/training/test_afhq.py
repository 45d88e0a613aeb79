"""The recipes of AFHQ on folders laid out like AFHQ: which pictures they take, and what they cost in parameters."""

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff.nets.unet import UNet
from minidiff.training.afhq import AUTOENCODER, afhq
from minidiff.training.recipes import RECIPES
from minidiff.worlds import held_out


@pytest.fixture(params=["val", "test"])
def data(request, tmp_path, monkeypatch):
    """One picture of each animal in each split, every one a shade of its own."""
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    shades = iter(range(0, 250, 40))
    for split in ("train", request.param):
        for animal in ("cat", "dog", "wild"):
            folder = tmp_path / "afhq" / split / animal
            folder.mkdir(parents=True)
            pixels = np.full((8, 8, 3), next(shades), np.uint8)
            pixels[:, 4:] = 255
            Image.fromarray(pixels).save(folder / "1.png")


def test_each_model_has_its_own_animal_and_its_mirror(data):
    for place, animal in enumerate(("cat", "dog", "wild")):
        recipe = RECIPES[f"afhq-{animal}"]
        train, others = recipe.pictures(), recipe.held_out()
        assert len(train) == 2 and len(others) == 1 and train.shape == others.shape == (3, 256, 256)
        shades = [((images[:, 0, 0, 0] + 1) * 127.5).round().tolist() for images in (train[:], others[:])]
        assert shades == [[40 * place, 255], [40 * (3 + place)]]
        assert torch.equal(held_out(recipe.name)[:], others[:])


def test_the_network_fits_the_latents_of_any_such_autoencoder():
    recipe = RECIPES["afhq-cat"]
    assert recipe.autoencoder == AUTOENCODER and AUTOENCODER.startswith("diffusers:")
    with torch.device("meta"):
        network = UNet(recipe.config)
        output = network(torch.zeros(2, 4, 32, 32), torch.zeros(2))
    assert output.shape == (2, 4, 32, 32)
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6) == 84  # as the recipe says


def test_where_the_photographs_are_missing_it_is_said(tmp_path, monkeypatch, data):
    with pytest.raises(ValueError, match="classes: no class fox; there are cat, dog, wild"):
        afhq("fox", "train")
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="AFHQ: there is no folder .*elsewhere/afhq; set MINIDIFF_DATA"):
        afhq("cat", "train")
