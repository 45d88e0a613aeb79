import dataclasses
import json

import pytest
import torch

from minidiff import zoo
from minidiff.nets.autoencoder import kl
from minidiff.training.bank import to_bytes, to_images
from minidiff.training.export import export
from minidiff.training.loop import train


def test_the_losses_of_an_item_do_not_depend_on_its_batch(autoencoder_recipe, probe_recipe):
    for recipe in (autoencoder_recipe, probe_recipe):
        network, bank, seeds = recipe.network(), recipe.bank(), torch.arange(48)
        recipe.prepare(network, bank)
        whole = recipe.loss(network, bank, seeds)
        part = recipe.loss(network, {name: rows[10:13] for name, rows in bank.items()}, seeds[10:13])
        assert whole.shape == (48,) and torch.allclose(whole[10:13], part, rtol=1e-4)


def test_the_autoencoder_pays_for_distortion_and_for_nats(autoencoder_recipe):
    network, rows = autoencoder_recipe.network(), {"images": to_bytes(torch.rand(4, 3, 16, 16) * 2 - 1)}
    free = dataclasses.replace(autoencoder_recipe, kl_weight=0.0).loss(network, rows, torch.arange(4))
    paid = dataclasses.replace(autoencoder_recipe, kl_weight=0.5).loss(network, rows, torch.arange(4))
    nats = kl(*network.posterior(to_images(rows["images"])))
    assert torch.allclose(paid - free, 0.5 * nats / (3 * 16 * 16), atol=1e-5)


def test_fields_are_json_that_names_functions(denoiser_recipe):
    fields = json.loads(json.dumps(denoiser_recipe.fields()))
    assert fields["kind"] == "denoiser" and fields["config"]["channels"] == [32]
    assert fields["pictures"] == {"function": "Critters", "species": "all", "length": 48, "size": 16, "seed": 7}


@pytest.mark.parametrize("field", ["steps", "batch", "log_every", "checkpoint_every"])
def test_counts_below_one_are_refused(autoencoder_recipe, field):
    with pytest.raises(ValueError, match=f"{field}: expected at least 1, got 0"):
        dataclasses.replace(autoencoder_recipe, **{field: 0})


def test_from_training_to_the_zoo_and_back(autoencoder_recipe, denoiser_recipe, probe_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    with pytest.raises(ValueError, match="no model 'tiny-autoencoder' in the zoo"):  # its latents come from there
        next(train(denoiser_recipe, tmp_path / "run", cpu=True))
    assert not (tmp_path / "run").exists()

    for recipe in (autoencoder_recipe, denoiser_recipe, probe_recipe):
        run_dir = tmp_path / "runs" / recipe.name
        with pytest.raises(FileNotFoundError, match="the run is not finished"):
            export(run_dir, chosen=recipe)
        list(train(recipe, run_dir, cpu=True, command=f"minidiff train {recipe.name}"))
        assert export(run_dir, chosen=recipe) == tmp_path / "weights" / f"{recipe.name}.safetensors"

    assert zoo.names() == ["tiny-autoencoder", "tiny-denoiser", "tiny-probe"]
    entry = zoo.describe("tiny-denoiser")
    assert entry["command"] == "minidiff train tiny-denoiser" and entry["steps"] == 10 and entry["seconds"] > 0
    assert 0 < entry["figures"]["held_out_loss"] < 5 and entry["recipe"]["batch"] == 8
    assert zoo.describe("tiny-autoencoder")["figures"]["held_out_pictures"] == 20
    assert entry["bytes"] == (tmp_path / "weights" / entry["file"]).stat().st_size
    assert zoo.load("tiny-denoiser").replace(steps=5).sample(2).shape == (2, 3, 16, 16)
    assert zoo.load("tiny-probe").read(torch.zeros(1, 3, 16, 16))["coat"].shape == (1, 3)

    list(train(dataclasses.replace(autoencoder_recipe, seed=9), tmp_path / "other", cpu=True))
    export(tmp_path / "other", chosen=autoencoder_recipe)
    with pytest.raises(ValueError, match="tiny-denoiser was trained in the latents of another tiny-autoencoder"):
        zoo.load("tiny-denoiser")
    with pytest.raises(ValueError, match="autoencoder_sha256"):  # nor does its training go on in the new latents
        next(train(denoiser_recipe, tmp_path / "runs" / "tiny-denoiser", cpu=True))
