"""A model that is told things, from its recipe to the zoo and back: what each item is told, and that it listens."""

import dataclasses

import pytest
import torch

from minidiff import zoo
from minidiff.conditioning import MAP_CHANNELS, MAPS, condition
from minidiff.data.degradations import random_masks
from minidiff.data.renderer import PARTS
from minidiff.nets.segmenter import SegmenterConfig
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.training.bank import to_images
from minidiff.training.conditional import ConditionalRecipe, begin_with, tower
from minidiff.training.export import export
from minidiff.training.judges import SegmenterRecipe
from minidiff.training.loop import train

ROUTES = (("text", 0.3), ("label", 0.2), ("layout+text", 0.2), ("known", 0.2), ("", 0.1))


@pytest.fixture
def recipe(common):
    config = UNetConfig(
        in_channels=4, channels=(32,), attention=(True,), time=16, context=32, classes=3, maps=MAP_CHANNELS,
        map_features=4, map_factor=4,
    )  # fmt: skip
    return ConditionalRecipe(
        name="tiny-told",
        config=config,
        seed=5,
        autoencoder="tiny-autoencoder",
        text="tiny-clip",
        routes=ROUTES,
        **common,
    )


@pytest.fixture
def partners(autoencoder_recipe, clip_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    tower.cache_clear()
    for partner in (autoencoder_recipe, clip_recipe):
        list(train(partner, tmp_path / partner.name, cpu=True))
        export(tmp_path / partner.name, chosen=partner)
    yield
    tower.cache_clear()


def test_items_are_told_by_routes_in_their_shares(recipe):
    told = recipe.told(torch.arange(20_000))
    shares = {name: flags.double().mean().item() for name, flags in told.items()}
    assert shares == pytest.approx(
        {"text": 0.5, "label": 0.2, "layout": 0.2, "low_res": 0, "blurred": 0, "known": 0.2}, abs=0.015
    )
    assert not (told["layout"] & ~told["text"]).any() and not (told["known"] & told["text"]).any()
    assert torch.equal(recipe.told(torch.tensor([17]))["text"], told["text"][17:18])


def test_a_start_is_the_model_it_came_from_whatever_the_maps_show(recipe):
    told_less = UNet(dataclasses.replace(recipe.config, maps=0))
    for parameter in told_less.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    net = UNet(recipe.config)
    begin_with(net, told_less)
    x, t, tokens, mask = torch.randn(2, 4, 4, 4), torch.tensor([3, 500]), torch.randn(2, 5, 32), torch.ones(2, 5) > 0
    features = torch.randn(2, recipe.config.map_features, 4, 4, requires_grad=True)
    with torch.no_grad():
        assert torch.allclose(net(x, t, tokens, mask, features), told_less(x, t, tokens, mask), atol=1e-6)
    net(x, t, tokens, mask, features).square().sum().backward()
    assert net.first.weight.grad[:, 4:].abs().max() > 0  # it can learn to look


def test_a_start_of_other_widths_is_refused(recipe):
    with pytest.raises(ValueError, match="start: expected a network of the same widths"):
        begin_with(UNet(recipe.config), UNet(dataclasses.replace(recipe.config, maps=0, channels=(64,))))


def test_from_training_to_the_zoo_and_back(recipe, partners, tmp_path):
    list(train(recipe, tmp_path / "run", cpu=True, command="minidiff train tiny-told"))
    export(tmp_path / "run", chosen=recipe)
    entry, model = zoo.describe("tiny-told"), zoo.load("tiny-told")
    assert entry["text"] == "tiny-clip" and entry["text_sha256"] == zoo.describe("tiny-clip")["sha256"]
    assert entry["figures"]["held_out_pictures"] == 20
    images, mask = recipe.held_out()[:2], torch.ones(2, 1, 16, 16)
    model = model.replace(steps=3)
    for given in (
        dict(text="a cat"),
        dict(label=[0, 2]),
        dict(text=["a cat", "a dog"], known=(images, mask), scale=2.0),
    ):
        drawn = model.given(**given).sample(2)
        assert drawn.shape == (2, 3, 16, 16) and drawn.isfinite().all()
    with pytest.raises(ValueError, match="no word 'catt' in the grammar; did you mean 'cat'"):
        model.given(text="a catt")
    with pytest.raises(ValueError, match="tokens: this network takes tokens .* tell it what to draw"):
        model.sample(2)


def test_captions_may_be_read_by_a_clip_of_open_clip(recipe, partners, small_open_clip, tmp_path):
    """Its vocabulary is its own, so a model trained with it also takes words that are not of the grammar."""
    foreign = dataclasses.replace(recipe, text=small_open_clip, steps=2)
    list(train(foreign, tmp_path / "run", cpu=True))
    export(tmp_path / "run", chosen=foreign)
    model = zoo.load("tiny-told").replace(steps=2)
    assert zoo.describe("tiny-told")["text"] == small_open_clip
    assert model.given("a photo of a very big turtle", scale=2.0).sample(1).isfinite().all()


@torch.no_grad()
def test_training_and_sampling_tell_the_network_the_same(recipe, partners):
    """The condition of an item, as the recipe builds it in a batch and as `given` builds it alone."""
    torch.manual_seed(0)
    network, rows, seeds = recipe.network().eval(), recipe.bank(), torch.arange(48)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    told = recipe.told(seeds)
    batch = recipe.condition(network, rows, seeds)
    x, t = torch.randn(48, 4, 4, 4), torch.full((48,), 300)
    in_training = network.net(x, t, **batch)

    clip, checked = tower("tiny-clip"), set()
    for i in range(48):
        given = {}
        if told["text"][i]:
            given["text"] = clip.tokenizer.decode(rows["words"][i].long())
        if told["label"][i]:
            given["label"] = rows["label"][i]
        if told["layout"][i]:
            given["layout"] = rows["layout"][i : i + 1].long()
        if told["known"][i]:
            given["known"] = (to_images(rows["images"][i : i + 1]), random_masks(seeds[i : i + 1], 1, 16))
        alone = network.net(x[i : i + 1], t[i : i + 1], **condition(network.net, lambda: clip, **given).parts())
        torch.testing.assert_close(alone, in_training[i : i + 1], rtol=0, atol=2e-4)
        checked.add(tuple(given))
    assert checked == {("text",), ("label",), ("text", "layout"), ("known",), ()}


def test_features_of_items_that_are_told_no_picture_are_exactly_zero(recipe, partners):
    network, rows, seeds = recipe.network(), recipe.bank(), torch.arange(48)
    features = recipe.condition(network, rows, seeds)["features"]
    told = recipe.told(seeds)
    any_map = torch.stack([told[name] for name in MAPS]).any(0)
    assert (features[~any_map] == 0).all() and (features[any_map].abs().flatten(1).amax(1) > 0).all()


def test_a_recipe_with_wrong_routes_is_refused(recipe):
    with pytest.raises(ValueError, match="routes: expected shares of .*, got 'words': 1"):
        dataclasses.replace(recipe, routes=(("words", 1.0),))
    with pytest.raises(ValueError, match="routes: expected shares that sum to 1"):
        dataclasses.replace(recipe, routes=(("text", 0.5),))


def test_the_segmenter_learns_from_maps(common, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    config = SegmenterConfig(parts=len(PARTS), widths=(32, 32))
    recipe = SegmenterRecipe(name="tiny-segmenter", config=config, seed=6, **(common | {"steps": 40, "lr": 5e-3}))
    losses = [step.loss for step in train(recipe, tmp_path / "run", cpu=True)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    export(tmp_path / "run", chosen=recipe)
    assert 0 < zoo.describe("tiny-segmenter")["figures"]["held_out_iou"] < 1
    assert zoo.load("tiny-segmenter").read(recipe.held_out()[:3]).shape == (3, 16, 16)
