"""The small parts of training: the average, the bank, the seeds of a batch, the bar for bare machines, the command."""

from functools import partial

import pytest
import torch

from minidiff import zoo
from minidiff.data.critters import Critters
from minidiff.training.bank import batch_seeds, draw, picture_bank, to_bytes, to_images
from minidiff.training.checkpoint import load
from minidiff.training.command import run
from minidiff.training.conditional import ConditionalRecipe
from minidiff.training.ema import EMA
from minidiff.training.recipes import RECIPES, recipe


def test_the_average_in_closed_form():
    """With constant decay d and weights 1, 2, .., n after a start of 0: sum of (1 - d) d^(n - k) k."""
    layer = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.zeros_(layer.weight)
    ema, n, late = EMA(layer, 0.5), 6, 100  # so late that (1 + step) / (10 + step) exceeds 0.5
    for k in range(1, n + 1):
        torch.nn.init.constant_(layer.weight, k)
        ema.update(layer, late)
    assert ema.average["weight"].item() == pytest.approx(sum(0.5 * 0.5 ** (n - k) * k for k in range(1, n + 1)))
    ema.copy_to(layer)
    assert layer.weight.item() == ema.average["weight"].item()


def test_the_average_forgets_its_start():
    ema = EMA(torch.nn.Linear(1, 1), 0.999)
    assert [ema.decay_at(step) for step in (0, 10)] == [0.1, 0.55]
    assert ema.decay_at(100_000) == 0.999
    with pytest.raises(ValueError, match=r"decay: expected a number in \[0, 1\), got 1.0"):
        EMA(torch.nn.Linear(1, 1), 1.0)


def test_bytes_and_back():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(to_images(values)), values)
    images = torch.linspace(-1, 1, 1001)
    assert (to_images(to_bytes(images)) - images).abs().max() <= 1 / 255 + 1e-6
    assert torch.equal(to_bytes(torch.tensor([-1.5, 1.5])), torch.tensor([0, 255], dtype=torch.uint8))


def test_a_bank_holds_the_pictures_in_order():
    pictures = Critters("cat", length=7, size=16)
    bank = picture_bank(pictures, chunk=3)
    assert bank.shape == (7, 3, 16, 16) and (to_images(bank) - pictures[:]).abs().max() < 0.005


def test_processes_share_a_batch_and_steps_never_repeat():
    whole = batch_seeds(5, step=3, batch=8)
    assert torch.equal(torch.cat([batch_seeds(5, 3, 8, rank, 2) for rank in range(2)]), whole)
    seeds = torch.cat([batch_seeds(seed, step, 8) for seed in (5, 6) for step in range(50)])
    assert len(seeds.unique()) == len(seeds)


def test_drawing_is_fair_and_keeps_rows_together():
    bank = {"a": torch.arange(10), "b": 2 * torch.arange(10)}
    rows = draw(bank, torch.arange(20_000))
    assert torch.equal(rows["b"], 2 * rows["a"])
    assert (rows["a"].bincount(minlength=10) / 2_000 - 1).abs().max() < 0.1


def test_every_model_has_its_own_seed_and_pictures():
    assert all(name == item.name for name, item in RECIPES.items())
    assert len({item.seed for item in RECIPES.values()}) == len(RECIPES)
    drawn = [item for item in RECIPES.values() if item.name.startswith("critters")]
    assert len({item.pictures.keywords["seed"] for item in drawn}) == len(drawn)
    assert all(item.held_out.keywords["seed"] not in (item.pictures.keywords["seed"], 0, 1) for item in drawn)


def test_recipes_keep_to_the_limits():
    for item in (item for item in RECIPES.values() if not item.name.startswith("afhq")):  # those are for GPUs
        if getattr(item, "perceptual", "") in set(RECIPES) - set(zoo.names()):
            continue  # its network brings along a probe that is still to be trained
        net = item.kept(item.network())
        limit = 4_600_000 if isinstance(item, ConditionalRecipe) else 4_000_000  # to be told things takes weights too
        assert sum(weight.numel() for weight in net.parameters()) <= limit, item.name
    assert RECIPES["critters-autoencoder"].config.latent_channels <= 8


def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="recipe: there is none for 'critters-cats'; did you mean 'critters-cat'?"):
        recipe("critters-cats")
    with pytest.raises(ValueError, match="there is none for 'x'; known are critters-autoencoder"):
        run("x", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_command_trains_exports_and_goes_on(autoencoder_recipe, tmp_path, monkeypatch, request):
    monkeypatch.setitem(RECIPES, "tiny-autoencoder", autoencoder_recipe)
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    request.addfinalizer(partial(torch.set_flush_denormal, False))  # the command sets it for the whole process
    out = run("tiny-autoencoder", steps=6, out=tmp_path / "run")
    assert zoo.names() == []
    assert run("tiny-autoencoder", steps=6, out=out, export=True) == tmp_path / "run"
    assert zoo.describe("tiny-autoencoder")["command"] == "minidiff train tiny-autoencoder --steps 6"
    with pytest.raises(ValueError, match=r"holds a run with {'steps': 6}, not {'steps': 7}"):
        run("tiny-autoencoder", steps=7, out=out)
    run("tiny-autoencoder", steps=7, out=out, resume=False)
    assert load(out / "model.safetensors")[1]["steps"] == 7
