"""The recipes of the other families: their losses by item, a few steps of training, and the way into the zoo and back."""

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from minidiff import zoo
from minidiff.families import FAMILIES
from minidiff.nets.ddgan import DDGANConfig
from minidiff.nets.diffae import DiffAEConfig
from minidiff.nets.flow import FlowConfig
from minidiff.nets.gan import GANConfig
from minidiff.nets.vae import VAEConfig
from minidiff.samplers import DDPM
from minidiff.schedule import linear, step_grid
from minidiff.seeds import normal
from minidiff.training.diffae import DiffAERecipe
from minidiff.training.export import export
from minidiff.training.flows import FlowRecipe
from minidiff.training.gans import DDGANRecipe, GANRecipe, posteriors
from minidiff.training.loop import train
from minidiff.training.run import Run
from minidiff.training.vaes import VAERecipe

UNET = {"in_channels": 4, "channels": (8, 32), "attention": (False, True), "time": 16, "tokens": 2, "context": 32}


@pytest.fixture
def recipes(common):
    latent = {"autoencoder": "tiny-autoencoder", **common}
    game = {"critic": (8, 16), "gamma": 1.0, "judge": "tiny-probe"}
    diffae = DiffAEConfig(**UNET, size=4, semantic=8, encoder=(8, 16), prior=(16, 1))
    return {
        "vae": VAERecipe(
            name="tiny-vae", seed=11, config=VAEConfig(3, 16, code=8, encoder=(8, 16), decoder=(16, 8, 8)), **common
        ),
        "flow": FlowRecipe(name="tiny-flow", seed=12, config=FlowConfig(4, 1, (8, 8)), **latent),
        "gan": GANRecipe(name="tiny-gan", seed=13, config=GANConfig(4, 4, 8, widths=(16, 8)), **game, **latent),
        "ddgan": DDGANRecipe(name="tiny-ddgan", seed=14, config=DDGANConfig(**UNET, code=4, steps=2), **game, **latent),
        "diffae": DiffAERecipe(name="tiny-diffae", seed=15, config=diffae, reconstructed=2, **latent),
    }


@pytest.fixture(scope="module")
def partners(tmp_path_factory):
    """Where the zoo of these tests begins."""
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(autouse=True)
def small_zoo(partners, autoencoder_recipe, probe_recipe, monkeypatch):
    """A zoo that holds an autoencoder and a probe, both after one step of training."""
    monkeypatch.setattr(zoo, "WEIGHTS", partners)
    for recipe in (autoencoder_recipe, probe_recipe):
        if recipe.name not in zoo.names():
            short = dataclasses.replace(recipe, steps=1)
            list(train(short, partners / "runs" / recipe.name, cpu=True))
            export(partners / "runs" / recipe.name, chosen=short)


def made(recipe):
    torch.manual_seed(0)
    return recipe.network()


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_loss_of_an_item_does_not_depend_on_its_batch(recipes, kind):
    network, bank, seeds = made(recipes[kind]), recipes[kind].bank(), torch.arange(48)
    whole = recipes[kind].loss(network, bank, seeds)
    part = recipes[kind].loss(network, {name: rows[10:13] for name, rows in bank.items()}, seeds[10:13])
    assert whole.shape == (48,) and whole.std() > 0
    torch.testing.assert_close(whole[10:13], part, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_from_training_to_the_zoo_and_back(recipes, kind, tmp_path):
    recipe = recipes[kind]
    steps = list(train(recipe, tmp_path, cpu=True, command=f"minidiff train {recipe.name}"))
    assert len(steps) == recipe.steps
    export(tmp_path, chosen=recipe)

    entry, model = zoo.describe(recipe.name), zoo.load(recipe.name)
    assert type(model) is FAMILIES[kind] and entry["kind"] == kind
    assert entry["figures"].pop("held_out_pictures") == 20 and all(map(float, entry["figures"].values()))
    assert json.loads(json.dumps(recipe.fields()))["config"] == entry["config"]
    assert entry.get("autoencoder") == (None if kind == "vae" else "tiny-autoencoder")
    for module in (model.autoencoder, model.network):
        assert not module.training and not any(weight.requires_grad for weight in module.parameters())
    assert model.sample(2).shape == (2, 3, 16, 16)


@pytest.mark.parametrize(("kind", "lr"), [("vae", 1e-2), ("diffae", 5e-3)])
def test_what_has_one_loss_lowers_it(recipes, kind, lr, tmp_path):
    recipe = dataclasses.replace(recipes[kind], steps=60, lr=lr, checkpoint_every=60)
    losses = [step.loss for step in train(recipe, tmp_path, cpu=True)]
    assert sum(losses[-10:]) < sum(losses[:10]) - 0.5


def test_the_center_of_a_trained_gan_is_that_of_its_average(recipes, tmp_path):
    list(train(recipes["gan"], tmp_path, cpu=True))
    export(tmp_path, chosen=recipes["gan"])
    network = zoo.load("tiny-gan").network
    center = network.center.clone()
    network.fit_center()
    assert center.any() and torch.allclose(center, network.center, atol=1e-3)  # its weights were rounded since


def test_a_gan_learns_what_its_critic_sees(recipes):
    """Large latents are wanted, and small ones are made at first."""
    recipe = recipes["gan"]
    rows = {name: values[:16] + (name == "mean") for name, values in recipe.bank().items()}
    players, look = made(recipe), normal(torch.arange(64), (8,), "look")
    wanted, before = rows["mean"].mean().item(), players.generator(look).mean().item()
    adam = torch.optim.AdamW(players.parameters(), 3e-3, (0.0, 0.99))
    for step in range(40):
        recipe.loss(players, rows, torch.arange(16) + 16 * step, 0.5).mean().backward()
        adam.step()
        adam.zero_grad()
    after = players.generator(look).mean().item()
    assert wanted > 0.4 and abs(after - wanted) < 0.6 * abs(before - wanted)
    assert recipe.gamma_at(0.0) == 1.0 and recipe.gamma_at(1.0) == pytest.approx(0.1)


def test_posteriors_are_those_of_ddpm():
    """q(x_s | x_t, x0), of which the last step's is x0 itself; through q(x_t | x0) it gives q(x_s | x0)."""
    noise, grid = linear(), step_grid(linear(), 4)
    a, b, std = posteriors(noise, grid).T
    assert (a[-1].item(), b[-1].item(), std[-1].item()) == pytest.approx((1, 0, 0))
    assert std.tolist() == pytest.approx([DDPM(noise).std(step) for step in grid])
    for step, to_x0, to_x_t, spread in zip(grid[:-1], a, b, std):
        (signal_t, noise_t), (signal_s, noise_s) = noise.levels(step.t, a), noise.levels(step.s, a)
        assert (to_x0 + to_x_t * signal_t).item() == pytest.approx(signal_s)
        assert ((to_x_t * noise_t) ** 2 + spread**2).item() == pytest.approx(noise_s**2)


def test_a_ddgan_compares_steps_from_one_and_the_same_state(recipes, monkeypatch):
    recipe, seen = recipes["ddgan"], []
    players, rows = made(recipe), recipe.rows(recipe.held_out(), range(20))

    def duel(critic, real, made, gamma, x_t, t):
        seen.append((real, made, x_t, t))
        return real.flatten(1).sum(1), made.flatten(1).sum(1)

    monkeypatch.setattr("minidiff.training.gans.duel", duel)
    recipe.loss(players, rows, torch.arange(20))
    ((real, fake, x_t, t),) = seen
    x0, (high, low) = recipe.clean(rows, torch.arange(20)), (step.t for step in players.generator.grid)
    assert set(t.tolist()) == {high, low}
    landed = t == low  # the last step: x_s is x0
    torch.testing.assert_close(real[landed], x0[landed])
    drawn = players.generator(x_t, t, normal(torch.arange(20), (4,), "code"))
    torch.testing.assert_close(fake[landed], drawn[landed])
    assert (real - x0)[~landed].abs().mean() > 0.1


def test_a_ddgan_learns_the_mean_before_it_plays(recipes):
    recipe = dataclasses.replace(recipes["ddgan"], steps=20, restarts=(10,), anchor=0.5)
    players, rows, seeds = made(recipe), recipe.rows(recipe.held_out(), range(6)), torch.arange(6)
    alone = recipe.loss(players, rows, seeds, 0.45)
    alone.sum().backward()
    assert all(weight.grad is None for weight in players.critic.parameters())
    x0 = recipe.clean(rows, seeds)  # a new network draws nothing: its last layer is zero
    torch.testing.assert_close(alone, x0.square().flatten(1).mean(1))
    game = recipe.loss(players, rows, seeds, 0.5)  # gamma is at its beginning
    torch.testing.assert_close(game, recipes["ddgan"].loss(players, rows, seeds, 0.0) + 0.5 * alone)
    game.sum().backward()
    assert any(weight.grad.any() for weight in players.critic.parameters())


def test_a_critic_in_haste_learns_at_its_own_pace(recipes):
    recipe = dataclasses.replace(recipes["ddgan"], haste=10.0, lr=1e-4, warmup=0)
    run = Run(recipe, Accelerator(cpu=True))
    before = {name: weight.detach().clone() for name, weight in run.network.named_parameters()}
    run.step(0, 1e-4)  # Adam's first moves every weight by the lr
    moved = {name: (weight - before[name]).abs().max().item() for name, weight in run.network.named_parameters()}
    for player, lr in {"generator": 1e-4, "critic": 1e-3}.items():
        farthest = max(distance for name, distance in moved.items() if name.startswith(player))
        assert farthest == pytest.approx(lr, rel=0.02)


def test_the_prior_does_not_move_the_encoder(recipes):
    recipe = recipes["diffae"]
    network, rows = made(recipe), recipe.rows(recipe.held_out(), range(20))
    for layer in (network.prior.net.last, network.denoiser.net.last, network.denoiser.net.up[1].cross.out):
        torch.nn.init.normal_(layer.weight)  # zero in a new network, and nothing reaches what comes before
    pictures, prior = recipe.terms(network, rows, torch.arange(20))
    encoder = list(network.encoder.parameters())
    assert all(g is None for g in torch.autograd.grad(prior.sum(), encoder, retain_graph=True, allow_unused=True))
    assert sum(g.abs().sum() for g in torch.autograd.grad(pictures.sum(), encoder)) > 0
    z_sem = network.encoder(recipe.clean(rows, torch.arange(20)))
    torch.testing.assert_close(z_sem, F.layer_norm(z_sem, (8,)), rtol=1e-3, atol=1e-3)
