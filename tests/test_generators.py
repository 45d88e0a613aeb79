"""LatentDiffusion as a map between codes and images: exact both ways, per item, with settings that can be replaced."""

import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minidiff.denoiser import Denoiser
from minidiff.generators import Identity, LatentDiffusion, check_images, progress
from minidiff.ideal import IdealDenoiser
from minidiff.samplers import DDIM, DDPM
from minidiff.schedule import cosine, linear, step_grid
from minidiff.solvers import DPMSolver2M, Heun

SHAPE = (1, 4, 4)


class Untrained(nn.Module):
    """A small convolutional network that nobody trained."""

    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)

    def forward(self, x, t):
        return self.last(F.silu(self.first(x) + (t.to(x.dtype) / 1000).view(-1, 1, 1, 1)))


class Unshuffle(nn.Module):
    """An autoencoder without loss: 2 x 2 pixels become 4 channels, scaled as its one weight says."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def encode(self, images, seeds=None):
        return F.pixel_unshuffle(images, 2) * self.scale

    def decode(self, latents):
        return F.pixel_shuffle(latents / self.scale, 2)

    def latent_shape(self, image_shape):
        C, H, W = image_shape
        return 4 * C, H // 2, W // 2


def model(**settings):
    return LatentDiffusion(Unshuffle(), Denoiser(Untrained(4), linear()), SHAPE, **{"steps": 10, **settings})


def images(dtype=torch.float32, count=3):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1


def test_shapes():
    assert model().latent_shape == (4, 2, 2) and model().code_shape == (11, 4, 2, 2)
    assert model(strength=0.5).code_shape == (6, 4, 2, 2) and model(eta=0.0).code_shape == (1, 4, 2, 2)
    assert model().random_code(3).shape == (3, 11, 4, 2, 2) and model().sample(3).shape == (3, *SHAPE)
    assert LatentDiffusion(Identity(), Denoiser(Untrained(1), linear()), SHAPE).code_shape == (51, *SHAPE)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"eta": 1.0},
        {"strength": 0.3},
        {"eta": 0.01, "strength": 0.7},
        {"sampler": "ddpm"},
        {"sampler": "euler_ancestral", "spacing": "uniform"},
        {"sampler": "dpm++2m_sde", "spacing": "karras", "strength": 0.7},
    ],
)
def test_decode_undoes_encode(dtype, bound, settings):
    """Whatever the dtype of the networks (float32 here), the picture keeps its own."""
    generator = model(**settings)
    code = generator.encode(images(dtype), seeds=4)
    assert code.dtype == dtype and code.shape == (3, *generator.code_shape)
    latents = generator.to_latents(images(dtype))
    assert (generator.decode_latents(generator.encode_latents(latents)) - latents).abs().max() <= bound
    assert (generator.decode(code) - images(dtype)).abs().max() <= max(bound, 1e-6)


def test_eta_0_runs_the_ode_backwards():
    ideal = IdealDenoiser(linear(), torch.zeros(SHAPE), std=0.3)
    generator = LatentDiffusion(Identity(), ideal, SHAPE, steps=200, eta=0.0)
    code = generator.encode(images(torch.float64) * 0.5)
    assert code.shape == (3, 1, *SHAPE)
    assert (generator.decode(code) - images(torch.float64) * 0.5).abs().max() < 0.03


@pytest.mark.parametrize("settings", [{"eta": 1.0}, {"sampler": "dpm++2m_sde", "spacing": "karras"}])
def test_samples_do_not_depend_on_the_batch(settings):
    generator = model(**settings)
    samples = generator.sample(5, seeds=20, batch=2)
    torch.testing.assert_close(samples, generator.sample(5, seeds=20), rtol=0, atol=1e-5)
    torch.testing.assert_close(samples[3:4], generator.sample(1, seeds=23), rtol=0, atol=1e-5)
    torch.testing.assert_close(samples, generator.decode(generator.random_code(5, 20)).detach(), rtol=0, atol=1e-5)


def test_samples_of_the_ideal_model_are_the_data():
    ideal = IdealDenoiser(linear(), torch.full((1, 1, 1), 0.4), std=0.2)
    samples = LatentDiffusion(Identity(), ideal, (1, 1, 1), steps=200, eta=1.0).sample(4000, batch=4000)
    assert samples.mean().item() == pytest.approx(0.4, abs=0.02) and samples.std().item() == pytest.approx(0.2, rel=0.1)


def test_decode_remembers_its_steps_only_for_a_code_that_asks():
    generator = model()
    assert not generator.decode(generator.random_code(1)).requires_grad
    code = generator.random_code(1).requires_grad_()
    (gradient,) = torch.autograd.grad(generator.decode(code).sum(), code)
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        assert not generator.decode(code).requires_grad


def test_replace():
    generator = model()
    assert generator.replace(eta=0.0, strength=0.5) == model(eta=0.0, strength=0.5).replace(
        autoencoder=generator.autoencoder, denoiser=generator.denoiser
    )
    assert generator.eta == 0.1 and generator.replace(steps=20).code_shape[0] == 21
    assert generator.to("cpu") is generator and generator.device == torch.device("cpu")


def test_samplers_by_name():
    generator = model()
    assert generator.sampler == DDIM(linear(), 0.1) and generator.eta == 0.1 and generator.spacing == "trailing"
    heun = generator.replace(sampler="heun", spacing="karras")
    assert heun.sampler == Heun(linear()) and heun.eta == 0.0 and heun.code_shape == (1, 4, 2, 2)
    assert heun.grid == step_grid(linear(), 10, spacing="karras") and heun.calls == 19
    assert heun.replace(steps=5).sampler is heun.sampler and heun.replace(steps=5).spacing == "karras"
    assert generator.replace(sampler="dpm++2m_sde").eta == 1.0
    assert generator.replace(sampler="dpm++2m", eta=0.4).sampler == DPMSolver2M(linear(), 0.4)
    assert generator.replace(sampler="dpm++2m", eta=0.4).replace(eta=0.0).sampler == DPMSolver2M(linear())
    own = DDPM(linear(), "large")
    assert generator.replace(sampler=own).sampler is own
    other = Denoiser(Untrained(4), cosine())
    assert generator.replace(sampler=own, denoiser=other).sampler == DDPM(cosine(), "large")
    assert torch.equal(generator.sample(2), generator.replace(sampler="ddim", eta=0.1).sample(2))


@pytest.mark.parametrize("sampler", ["euler", "heun", "flow_heun", "dpm++2m", "unipc"])
def test_ode_solvers_start_from_one_block(sampler):
    ideal = IdealDenoiser(linear(), torch.full((1, 1, 1), 0.4), std=0.2)
    generator = LatentDiffusion(Identity(), ideal, (1, 1, 1), steps=40, sampler=sampler, spacing="karras")
    assert generator.code_shape == (1, 1, 1, 1)
    samples = generator.sample(4000, batch=4000)
    assert samples.mean().item() == pytest.approx(0.4, abs=0.02) and samples.std().item() == pytest.approx(0.2, rel=0.1)


def test_euler_runs_backwards_as_ddim_does():
    euler, ddim = model(sampler="euler"), model(eta=0.0)
    assert torch.equal(euler.encode(images()), ddim.replace(autoencoder=euler.autoencoder).encode(images()))


def test_a_told_model_between_whole_levels(tiny_load):
    told = tiny_load("critters-text").given("a cat", scale=2.0)
    told = told.replace(sampler="dpm++2m_sde", spacing="karras", steps=5)
    latents = torch.randn(2, *told.latent_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert any(step.t != round(step.t) for step in told.grid)
    assert (told.decode_latents(told.encode_latents(latents)) - latents).abs().max() <= 1e-12
    assert told.replace(sampler="heun").sample(2).isfinite().all()


def test_progress_counts_denoised_items():
    generator, calls = model(), []
    generator.denoiser.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    expected = generator.sample(3)
    calls.clear()
    with progress("count", 60, generator.denoiser, generator.denoiser, delay=0):
        assert len(generator.denoiser._forward_hooks) == 2
        time.sleep(0.2)  # longer than tqdm's shortest interval: the bar is drawn
        assert torch.equal(generator.sample(3), expected)
    assert sum(calls) == 3 * 10 and len(generator.denoiser._forward_hooks) == 1


NAN = torch.full((2, *SHAPE), float("nan"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model(eta=2.0), "eta: .* got 2.0"),
        (lambda: model(strength=0.0), "strength: .* got 0.0"),
        (lambda: model(steps=0), "steps: .* got 0"),
        (lambda: model(sampler="plms"), r"sampler: expected one of ddim, ddpm, .*dpm\+\+2m_sde.*, got 'plms'"),
        (lambda: model().replace(sampler="heun", eta=0.5), "eta: Heun has eta = 0, got 0.5"),
        (lambda: model(sampler="ddpm").replace(eta=0.1), "eta: DDPM has eta = 1, got 0.1"),
        (lambda: model(spacing="leading"), "spacing: expected one of trailing, uniform, karras, got 'leading'"),
        (lambda: model(sampler="heun").encode(images()), "sampler: ddim_invert undoes first-order .* of Heun"),
        (lambda: model(sampler="dpm++2m").encode(images()), "use DDIM or Euler at eta = 0, a sampler with eta > 0"),
        (lambda: model().replace(strength=1.5), "strength: .* got 1.5"),
        (lambda: model().sample(0), "count: .* got 0"),
        (lambda: model().encode(images()[0]), r"images: expected shape \(B, 1, 4, 4\), got \(1, 4, 4\)"),
        (lambda: model().encode(images()[:0]), r"images: expected shape .* got \(0, 1, 4, 4\)"),
        (lambda: model().encode(images().expand(3, 3, 4, 4)), r"images: expected shape .* got \(3, 3, 4, 4\)"),
        (lambda: model().encode(torch.zeros(1, *SHAPE).byte()), "images: expected a float tensor .* got torch.uint8"),
        (lambda: model().encode([0.0]), "images: expected a float tensor .* got list"),
        (lambda: model().encode(images() + 1), r"images: expected values in \[-1, 1\], got \[0"),
        (lambda: model().encode(NAN), "images: expected finite numbers, got NaN"),
        (lambda: model().decode(torch.zeros(1, 10, 4, 2, 2)), r"code: expected shape \(B, 11, 4, 2, 2\), got \(1, 10"),
        (lambda: model().decode(torch.zeros(1, 11, 4, 4, 2)), r"code: expected shape \(B, 11, 4, 2, 2\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_range_has_a_tolerance_and_can_be_waived():
    check_images(torch.full((1, *SHAPE), 1.0009), SHAPE)
    check_images(torch.full((1, *SHAPE), 5.0), SHAPE, bound=None)
    with pytest.raises(ValueError, match="finite"):
        check_images(NAN, SHAPE, bound=None)


def test_told_models_draw_one_picture_for_each_condition(tiny_load):
    model = tiny_load("critters-maps").replace(steps=2)
    layout = torch.zeros(3, 32, 32, dtype=torch.long)
    drawn = model.given(text=["a cat", "a dog", "a wild"], layout=layout, scale=2.0).sample(seeds=5)
    assert drawn.shape == (3, 3, 32, 32)
    parts = model.given(text=["a cat", "a dog", "a wild"], layout=layout, scale=2.0).sample(seeds=5, batch=2)
    torch.testing.assert_close(parts, drawn, rtol=0, atol=1e-5)
    alone = model.given(text="a dog", layout=layout[:1], scale=2.0).sample(1, seeds=6)
    torch.testing.assert_close(alone, drawn[1:2], rtol=0, atol=1e-5)
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3
    assert model.given(label=1).sample(4).shape[0] == 4  # one condition serves all
    with pytest.raises(ValueError, match="condition: expected one for all, or one for each of 2 items, got 3"):
        model.given(label=[0, 1, 2]).sample(2)
    with pytest.raises(ValueError, match="maps: expected pictures of side 32, got 64"):
        model.given(layout=torch.zeros(1, 64, 64, dtype=torch.long))
    with pytest.raises(ValueError, match="layout: this model takes no pictures as a condition"):
        tiny_load("critters-text").given(layout=layout)
