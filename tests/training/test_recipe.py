import dataclasses
import json

import pytest
import torch

from minidiff import zoo
from minidiff.nets.autoencoder import kl
from minidiff.seeds import normal
from minidiff.training.bank import to_bytes, to_images
from minidiff.training.checkpoint import load
from minidiff.training.denoisers import DenoiserRecipe
from minidiff.training.export import export
from minidiff.training.loop import MODEL, train


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


def test_every_second_item_also_pays_for_its_latents_at_half_the_resolution(autoencoder_recipe):
    network, rows = autoencoder_recipe.network(), {"images": to_bytes(torch.rand(4, 3, 16, 16) * 2 - 1)}
    recipe = dataclasses.replace(autoencoder_recipe, coarse_until=0.68)
    recipes = [dataclasses.replace(recipe, coarse_weight=weight) for weight in (0.0, 1.0, 3.0)]
    none, one, three = (recipe.loss(network, rows, torch.arange(4)) for recipe in recipes)
    assert torch.equal((one > none), torch.tensor([True, False, True, False]))
    assert torch.allclose(three - none, 3 * (one - none), atol=1e-6)
    assert recipes[1].loss(network, rows, torch.tensor([1, 3, 5, 7])).isfinite().all()  # one of several processes
    assert torch.equal(recipes[2].loss(network, rows, torch.arange(4), part=0.9), none)  # until near the end


def test_half_of_the_training_goes_where_the_signal_is_not_lost(denoiser_recipe):
    seen = []

    class Spy(DenoiserRecipe):
        def loss_at(self, network, rows, seeds, t):
            seen.append(t)
            return super().loss_at(network, rows, seeds, t)

    recipe = Spy(**{f.name: getattr(denoiser_recipe, f.name) for f in dataclasses.fields(denoiser_recipe)})
    rows = {"mean": torch.zeros(4000, 4, 2, 2), "std": torch.zeros(4000, 4, 2, 2)}
    recipe.loss(recipe.network(), rows, torch.arange(4000))
    part = seen[0].double() / 1000
    assert part.median().item() == pytest.approx(torch.sigmoid(torch.tensor(-1.0)).item(), abs=0.02)
    assert part.logit().std().item() == pytest.approx(1.2, abs=0.05) and 0 <= seen[0].min() and seen[0].max() < 1000


def test_without_an_autoencoder_the_denoiser_learns_pixels(denoiser_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    config = dataclasses.replace(denoiser_recipe.config, in_channels=3)
    recipe = dataclasses.replace(denoiser_recipe, name="tiny-pixels", autoencoder=None, config=config, bits=8)
    network, bank, seeds = recipe.network(), recipe.bank(), torch.arange(48)
    torch.testing.assert_close(to_images(bank["images"]), recipe.pictures()[:], rtol=0, atol=1 / 255 + 1e-6)
    t = torch.full((48,), 500)
    eps = normal(seeds, (3, 16, 16), "noise")
    wanted = network.loss(to_images(bank["images"]), eps, t)
    torch.testing.assert_close(recipe.loss_at(network, bank, seeds, t), wanted)

    list(train(recipe, tmp_path / "run", cpu=True, command="minidiff train tiny-pixels"))
    export(tmp_path / "run", chosen=recipe)
    entry, model = zoo.describe("tiny-pixels"), zoo.load("tiny-pixels")
    assert entry["autoencoder"] is None and "autoencoder_sha256" not in entry
    assert entry["figures"]["held_out_pictures"] == 20
    assert model.latent_shape == (3, 16, 16) and model.replace(steps=4).sample(2).shape == (2, 3, 16, 16)
    images = recipe.held_out()[:2]
    assert torch.equal(model.to_latents(images), images)

    trained, _ = load(tmp_path / "run" / MODEL)  # 8 bits a weight
    for name, weight in model.denoiser.net.state_dict().items():
        step = trained["net." + name].abs().max() / 127
        assert (weight - trained["net." + name]).abs().max() < 0.6 * step  # half precision comes first
    assert entry["bytes"] < 1.5 * entry["parameters"]


def test_fields_are_json_that_names_functions(denoiser_recipe):
    fields = json.loads(json.dumps(denoiser_recipe.fields()))
    assert fields["kind"] == "denoiser" and fields["config"]["channels"] == [32]
    assert fields["pictures"] == {"function": "Critters", "species": "all", "length": 48, "size": 16, "seed": 7}


def test_bits_are_8_or_16(autoencoder_recipe):
    with pytest.raises(ValueError, match="bits: expected 8 or 16, got 4"):
        dataclasses.replace(autoencoder_recipe, bits=4)


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
    with pytest.raises(ValueError, match="tiny-denoiser was trained on another tiny-autoencoder"):
        zoo.load("tiny-denoiser")
    with pytest.raises(ValueError, match="autoencoder_sha256"):  # nor does its training go on in the new latents
        next(train(denoiser_recipe, tmp_path / "runs" / "tiny-denoiser", cpu=True))
