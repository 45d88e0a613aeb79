"""Autoencoders with a codebook, a perceptual term and an adversary: their terms, their training, their way to the zoo."""

import dataclasses

import pytest
import torch

from minidiff import zoo
from minidiff.nets.discriminator import adaptive_weight, displeasure, hinge
from minidiff.nets.perceptual import perceptual
from minidiff.training.autoencoders import distortion
from minidiff.training.bank import latent_bank, to_bytes, to_images
from minidiff.training.checkpoint import load
from minidiff.training.export import export
from minidiff.training.loop import CHECKPOINT, MODEL, check_same, train
from minidiff.training.workshop import Workshop

SEEDS = torch.arange(4)


@pytest.fixture
def coded(autoencoder_recipe):
    config = dataclasses.replace(autoencoder_recipe.config, bottleneck="vq", codes=8)
    return dataclasses.replace(autoencoder_recipe, config=config, revive_after=2)


@pytest.fixture
def judged(autoencoder_recipe):
    return dataclasses.replace(autoencoder_recipe, adversary_weight=0.5, adversary_from=0.5)


@pytest.fixture
def rows():
    torch.manual_seed(0)
    return {"images": to_bytes(torch.rand(4, 3, 16, 16) * 2 - 1)}


@pytest.fixture
def with_probe(probe_recipe, tmp_path, monkeypatch):
    """A zoo that holds a probe."""
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    list(train(probe_recipe, tmp_path / "probe", cpu=True))
    export(tmp_path / "probe", chosen=probe_recipe)


def made(recipe):
    torch.manual_seed(0)
    return recipe.network()


def test_without_new_terms_the_network_is_the_bare_autoencoder(autoencoder_recipe, coded, judged):
    assert type(made(autoencoder_recipe)).__name__ == "Autoencoder"
    plain = made(autoencoder_recipe).state_dict()
    kept = judged.kept(made(judged)).state_dict()
    assert plain.keys() == kept.keys() and all(torch.equal(plain[name], kept[name]) for name in plain)
    assert isinstance(made(coded), Workshop) and made(coded).discriminator is None


def test_the_adversary_comes_late_and_then_weighs_what_the_equation_says(autoencoder_recipe, judged, rows):
    recipe, plain = (dataclasses.replace(item, coarse_until=0.0) for item in (judged, autoencoder_recipe))
    workshop = made(recipe)
    autoencoder, images = workshop.autoencoder, to_images(rows["images"])
    for part, count in ((0.0, 0), (0.49, 0), (0.5, 1), (0.99, 1)):
        extra = recipe.loss(workshop, rows, SEEDS, part) - plain.loss(autoencoder, rows, SEEDS, part)
        assert (extra.count_nonzero() > 0) == count, part

    pictures = autoencoder.decode(autoencoder.encode(images))
    found = recipe.fidelity(workshop, pictures, images, part=0.5)
    base, doubts = distortion(pictures, images), displeasure(workshop.discriminator, pictures)
    balance = adaptive_weight(base.mean(), doubts.mean(), autoencoder.decoder[-2].weight)
    lesson = hinge(workshop.discriminator(images), workshop.discriminator(pictures))
    assert torch.allclose(found, base + 0.5 * balance * doubts + lesson, atol=1e-6)


def test_each_side_of_the_game_gets_its_own_gradient(judged, rows):
    """The discriminator learns from its hinge loss alone, the decoder does not learn to please by being easy to judge."""
    recipe = dataclasses.replace(judged, coarse_until=0.0)
    workshop = made(recipe)
    recipe.loss(workshop, rows, SEEDS, part=0.5).mean().backward()
    images, autoencoder = to_images(rows["images"]), workshop.autoencoder
    pictures = autoencoder.decode(autoencoder.encode(images, SEEDS)).detach()
    lesson = hinge(workshop.discriminator(images), workshop.discriminator(pictures)).mean()
    weights = list(workshop.discriminator.parameters())
    for weight, expected in zip(weights, torch.autograd.grad(lesson, weights)):
        assert torch.allclose(weight.grad, expected, atol=1e-6)
    assert weights[0].grad.abs().max() > 1e-4

    other = made(dataclasses.replace(recipe, adversary_weight=1e-30))  # a discriminator whose answers do not count
    dataclasses.replace(recipe, adversary_weight=1e-30).loss(other, rows, SEEDS, part=0.5).mean().backward()
    plain = made(dataclasses.replace(recipe, adversary_weight=0.0))
    dataclasses.replace(recipe, adversary_weight=0.0).loss(plain, rows, SEEDS, part=0.5).mean().backward()
    for weight, expected in zip(other.autoencoder.parameters(), plain.parameters()):
        assert torch.allclose(weight.grad, expected.grad, atol=1e-7)


def test_after_a_restart_the_adversary_teaches_the_decoder_alone(judged, rows):
    recipe = dataclasses.replace(judged, restarts=(5,), restart_lr=1e-3)
    workshop = made(recipe)
    recipe.loss(workshop, rows, SEEDS, part=0.6).mean().backward()
    assert all(weight.grad is None for weight in workshop.autoencoder.encoder.parameters())
    assert all(weight.grad is not None for weight in workshop.discriminator.parameters())


def test_the_perceptual_term_is_that_of_the_named_probe(autoencoder_recipe, with_probe, rows):
    recipe = dataclasses.replace(autoencoder_recipe, perceptual_weight=0.5, perceptual="tiny-probe")
    assert recipe.sources() == {"perceptual_sha256": zoo.describe("tiny-probe")["sha256"]}
    assert autoencoder_recipe.sources() == {}
    workshop, images = made(recipe), to_images(rows["images"])
    pictures = recipe.kept(workshop).decode(recipe.kept(workshop).encode(images))
    extra = recipe.fidelity(workshop, pictures, images, 0.0) - distortion(pictures, images)
    expected = 0.5 * perceptual(zoo.load("tiny-probe").maps, pictures, images)
    assert torch.allclose(extra, expected, atol=1e-6) and expected.min() > 0


def test_the_codebook_moves_in_training_mode_alone(coded, rows):
    workshop = made(coded)
    before = workshop.autoencoder.quantiser.codebook.clone()
    first = coded.loss(workshop.eval(), rows, SEEDS)
    assert torch.equal(before, workshop.autoencoder.quantiser.codebook)
    free = dataclasses.replace(coded, quantiser_weight=0.0).loss(workshop, rows, SEEDS)
    raw, _ = workshop.autoencoder.posterior(to_images(rows["images"]))
    index = workshop.autoencoder.quantiser.nearest(raw)
    assert torch.allclose(first - free, workshop.autoencoder.quantiser.loss(raw, index), atol=1e-6)
    coded.loss(workshop.train(), rows, SEEDS)
    assert (before != workshop.autoencoder.quantiser.codebook).all(1).all()  # at first all are placed


def test_revival_ends_before_the_training_does(coded, rows):
    recipe = dataclasses.replace(coded, revive_until=0.8)
    for part, expected in ((0.79, True), (0.8, False)):
        workshop = made(recipe)
        workshop.autoencoder.quantiser.codebook.fill_(1e3)
        recipe.loss(workshop, rows, SEEDS, part)
        assert (workshop.autoencoder.quantiser.codebook.abs().max() < 100) == expected


@pytest.mark.parametrize("terms", [{}, {"adversary_weight": 0.75, "adversary_from": 0.3}])
def test_a_resumed_run_is_an_uninterrupted_one_and_only_the_autoencoder_is_kept(coded, tmp_path, terms):
    recipe = dataclasses.replace(coded, **terms)
    list(train(recipe, tmp_path / "whole", cpu=True))
    broken = train(recipe, tmp_path / "broken", cpu=True)
    assert [next(broken).step for _ in range(6)][-1] == 6
    broken.close()
    assert next(iter(resumed := train(recipe, tmp_path / "broken", cpu=True))).step == 5
    list(resumed)
    for name in (CHECKPOINT, MODEL):
        (whole, _), (again, _) = (load(tmp_path / run / name) for run in ("whole", "broken"))
        assert whole.keys() == again.keys() and all(torch.equal(whole[key], again[key]) for key in whole)

    kept, _ = load(tmp_path / "whole" / MODEL)
    assert kept.keys() == recipe.kept(recipe.network()).state_dict().keys()
    checkpoint, _ = load(tmp_path / "whole" / CHECKPOINT)
    assert {"network/upkeep.idle", "average/autoencoder.quantiser.codebook"} <= checkpoint.keys()
    assert any(key.startswith("network/discriminator") for key in checkpoint) == bool(terms)


def test_the_loss_of_a_coded_autoencoder_falls(coded, tmp_path):
    recipe = dataclasses.replace(coded, steps=60, checkpoint_every=60, coarse_until=0.0, lr=5e-3)
    losses = [step.loss for step in train(recipe, tmp_path, cpu=True)]
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])


def test_all_terms_together_from_training_to_the_zoo_and_into_a_denoiser(coded, denoiser_recipe, with_probe, tmp_path):
    recipe = dataclasses.replace(
        coded, perceptual_weight=0.1, perceptual="tiny-probe", adversary_weight=0.75, adversary_from=0.4, kl_weight=0.0
    )
    list(train(recipe, tmp_path / "run", cpu=True))
    export(tmp_path / "run", chosen=recipe)
    entry = zoo.describe("tiny-autoencoder")
    assert entry["config"]["bottleneck"] == "vq" and entry["config"]["codes"] == 8
    assert entry["recipe"]["perceptual_sha256"] == zoo.describe("tiny-probe")["sha256"]
    assert entry["parameters"] == sum(weight.numel() for weight in recipe.kept(recipe.network()).parameters())
    figures = entry["figures"]
    assert figures["bits"] == 16 * 3 and 0 < figures["entropy_bits"] <= 16 * 3  # 4 x 4 places, 8 codes
    assert 1 < figures["perplexity"] <= figures["codes_used"] <= 8

    loaded = zoo.load("tiny-autoencoder")
    (trained, _), images = load(tmp_path / "run" / MODEL), torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.allclose(loaded.quantiser.codebook, trained["quantiser.codebook"], atol=1e-3, rtol=1e-3)
    codes = loaded.quantiser.look_up(loaded.quantiser.nearest(loaded.posterior(images)[0]))
    assert torch.allclose(loaded.decode(loaded.encode(images)), loaded.decoder(codes), atol=1e-5)

    bank = latent_bank(loaded, to_bytes(images))
    assert bank["std"].count_nonzero() == 0 and bank["mean"].shape == (2, 4, 4, 4)
    list(train(denoiser_recipe, tmp_path / "denoiser", cpu=True))
    export(tmp_path / "denoiser", chosen=denoiser_recipe)
    assert zoo.load("tiny-denoiser").replace(steps=3).sample(1).shape == (1, 3, 16, 16)


def test_a_run_of_an_older_version_goes_on(autoencoder_recipe, coded, tmp_path):
    fields = autoencoder_recipe.fields()
    config = {key: value for key, value in fields["config"].items() if key not in ("bottleneck", "codes")}
    new = ("quantiser_weight", "revive_after", "revive_until", "adversary_weight", "adversary_from")
    older = {key: value for key, value in fields.items() if key not in new} | {"config": config}
    assert autoencoder_recipe.completed(older) == fields
    check_same(fields, autoencoder_recipe.completed(older), tmp_path)
    with pytest.raises(ValueError, match="holds a run with {'config': .*'bottleneck': 'kl'"):
        check_same(coded.fields(), coded.completed(older), tmp_path)


def test_bad_input(autoencoder_recipe):
    with pytest.raises(ValueError, match="perceptual: expected the name of a probe of the zoo"):
        dataclasses.replace(autoencoder_recipe, perceptual_weight=0.1)
    with pytest.raises(ValueError, match="adversary_weight: expected 0 or more, got -1"):
        dataclasses.replace(autoencoder_recipe, adversary_weight=-1)
    with pytest.raises(ValueError, match="adversary_from: expected a part of the training from 0 to 1, got 50"):
        dataclasses.replace(autoencoder_recipe, adversary_from=50)
    with pytest.raises(ValueError, match="no model 'nobody' in the zoo"):
        dataclasses.replace(autoencoder_recipe, perceptual_weight=0.1, perceptual="nobody").network()
