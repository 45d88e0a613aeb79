"""What every generator promises: one map from codes to pictures, item by item, to guide and to walk about in."""

import pytest
import torch

from minidiff import codes
from minidiff.denoiser import Prediction
from minidiff.energies import custom
from minidiff.families import FAMILIES, DiffAE
from minidiff.guide import guide
from minidiff.reversible import Reversible, reversible
from minidiff.samplers import DDPM

MODELS = ("diffusion", "ode", "belm", "edict", *FAMILIES)


@pytest.fixture(params=MODELS)
def model(request, tiny_load):
    """One of each family, small and untrained, for pictures of 32 x 32."""
    return made(tiny_load, request.param)


def made(tiny_load, kind):
    if kind in ("diffusion", "ode"):
        return tiny_load("critters-cat").replace(eta=0.5 if kind == "diffusion" else 0.0)
    if kind in ("belm", "edict"):
        return reversible(tiny_load("critters-cat"), kind)
    model = tiny_load(f"critters-{kind}")
    return model.replace(steps=4) if kind == "diffae" else model


def pictures(count, dtype=torch.float32):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1


def test_codes_are_standard_normal_and_decode_to_pictures(model):
    code = model.random_code(64, seeds=3)
    assert code.shape == (64, *model.code_shape) and torch.equal(code, model.random_code(64, seeds=3))
    free = (getattr(model, "free", 1.0) * torch.ones_like(code)).bool()
    numbers = code[free]
    assert abs(numbers.mean()) < 5 / len(numbers) ** 0.5 and abs(numbers.std() - 1) < 5 / (2 * len(numbers)) ** 0.5
    images = model.decode(code[:3])
    assert images.shape == (3, 3, 32, 32) and torch.equal(images, model.decode(code[:3]))
    assert (images[0] - images[1]).abs().max() > 1e-3
    assert model.calls >= 1


def test_an_item_does_not_depend_on_its_batch(model):
    samples = model.sample(5, seeds=20, batch=2)
    for other in (model.sample(5, seeds=20), model.decode(model.random_code(5, 20))):
        torch.testing.assert_close(samples, other, rtol=0, atol=2e-4)
    torch.testing.assert_close(samples[3:4], model.sample(1, seeds=23), rtol=0, atol=2e-4)
    torch.testing.assert_close(samples[[1, 4]], model.sample(2, seeds=[21, 24]), rtol=0, atol=2e-4)


def test_pictures_keep_the_dtype_of_their_code_and_follow_the_device(model):
    code = model.random_code(2, dtype=torch.float64)
    assert code.dtype == torch.float64 and model.decode(code).dtype == torch.float64
    assert model.decode(code.float()).dtype == torch.float32
    torch.testing.assert_close(model.decode(code).float(), model.decode(code.float()), rtol=0, atol=1e-3)
    assert model.to("cpu") is model and model.device == torch.device("cpu")
    assert model.to("meta") is model and model.device == torch.device("meta")
    if not isinstance(model, DiffAE):  # guidance looks at its scale
        images = model.sample(2)  # nothing is made anywhere else
        assert images.device.type == "meta" and images.shape == (2, 3, 32, 32)


def test_every_number_of_a_code_counts(model):
    code = model.random_code(1, seeds=1).requires_grad_()
    (gradient,) = torch.autograd.grad(model.decode(code).square().sum(), code)
    assert gradient.abs().flatten(2 if code.ndim > 2 else 1).gt(0).all()
    assert not model.decode(code.detach()).requires_grad


def test_codes_of_another_shape_or_kind_are_refused(model):
    wanted = ", ".join(map(str, model.code_shape))
    for wrong in (torch.zeros(2, *model.code_shape, 1), torch.zeros(model.code_shape)):
        got = ", ".join(map(str, wrong.shape))
        with pytest.raises(ValueError, match=rf"code: expected shape \(B, {wanted}\), got \({got},?\)"):
            model.decode(wrong)
    with pytest.raises(ValueError, match="code: expected a float tensor, got torch.int64"):
        model.decode(torch.zeros(2, *model.code_shape, dtype=torch.long))
    with pytest.raises(ValueError, match="count: expected at least 1, got 0"):
        model.sample(0)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "ddgan"])
def test_encode_gives_codes_and_refuses_what_is_no_picture(tiny_load, kind):
    model, images = made(tiny_load, kind), pictures(3, torch.float64)
    few = {"steps": 3} if kind == "gan" else {}  # of the search
    code = model.encode(images, seeds=5, **few)
    assert code.shape == (3, *model.code_shape) and code.dtype == torch.float64
    torch.testing.assert_close(model.encode(images[1:2], seeds=6, **few), code[1:2], rtol=0, atol=1e-4)
    for wrong in (images[:, :1], images + 1, images[0], (images * 127).long()):
        with pytest.raises(ValueError, match="images: expected"):
            model.encode(wrong)


def test_an_energy_guides_any_of_them(model):
    """One step of Langevin dynamics is z - (h/2) grad U(z) + sqrt(h) xi; without noise it leads downhill."""
    target = pictures(2)
    near = custom(lambda images, code: 0.5 * (images - target).square().flatten(1).sum(1), "near")
    first, last = guide(model, 10 * near, 2, 1, 1e-4, seeds=4)
    assert torch.equal(first.code, model.random_code(2, 4)) and last.code.shape == first.code.shape
    code = first.code.clone().requires_grad_()
    prior = 0.5 * (getattr(model, "free", 1.0) * code).square().flatten(1).sum(1)
    (slope,) = torch.autograd.grad((10 * near(model.decode(code), code) + prior).sum(), code)
    slope = slope * getattr(model, "free", 1.0)
    noise = (last.code - first.code + 5e-5 * slope) / 1e-2
    assert abs(noise[noise != 0].std() - 1) < 0.3  # what the gradient does not explain is the noise
    downhill = first.code - 1e-3 * slope / slope.flatten(1).norm(dim=1).amax()
    before, after = (near(model.decode(z), z) for z in (first.code, downhill))
    assert (after < before).all()


def test_codes_are_a_space(model):
    code = model.random_code(6)
    for middle in (codes.slerp(code[:3], code[3:], 0.5), codes.combine([code[:3], code[3:]], [1, -1])):
        assert middle.shape == (3, *model.code_shape) and model.decode(middle).isfinite().all()
    assert codes.nearest(code, code).index.flatten().tolist() == list(range(6))
    found = codes.principal_directions(code, 2)
    moved = code[:1] + found.std[0] * found.axes[:1]
    assert (model.decode(moved) - model.decode(code[:1])).abs().max() > 1e-4


@pytest.mark.parametrize(("kind", "bound"), [("diffusion", 1e-12), ("belm", 1e-9), ("edict", 1e-9), ("flow", 1e-5)])
def test_what_comes_back_exactly(tiny_load, kind, bound):
    """In float64 to rounding; the flow computes in the dtype of its network, float32 here."""
    model, images = made(tiny_load, kind), pictures(3, torch.float64)
    latents = model.to_latents(images)
    assert (model.decode_latents(model.encode_latents(latents)) - latents).abs().max() <= bound
    back = model.decode(model.encode(images))
    torch.testing.assert_close(back, model.to_images(latents), rtol=0, atol=max(bound, 1e-5))


@pytest.mark.parametrize("kind", ["ode", "diffae"])
def test_what_comes_back_the_better_the_more_steps_there_are(tiny_load, kind):
    model, images = made(tiny_load, kind), pictures(3, torch.float64)
    latents, errors = model.to_latents(images), []
    for steps in (10, 40, 160):
        more = model.replace(steps=steps)
        errors.append((more.decode_latents(more.encode_latents(latents)) - latents).square().mean().sqrt().item())
    assert errors[0] > 1.5 * errors[1] > 1.5 * 1.5 * errors[2] and errors[2] < 0.2, errors


def test_a_random_code_of_a_reversible_ode_has_no_residual(tiny_load):
    model = reversible(tiny_load("critters-cat").replace(steps=6, strength=0.5), "edict")
    code = model.random_code(2)
    assert not code[:, 1].any() and model.free.flatten().tolist() == [True, False]
    assert torch.equal(code[:, :1], tiny_load("critters-cat").replace(eta=0.0).random_code(2))
    assert model.calls == 6 and model.replace(method="belm").calls == 3 and model.strength == 0.5
    assert model.encode(pictures(2))[:, 1].abs().max() > 1e-6
    with pytest.raises(ValueError, match="method: expected one of belm, edict, got 'ddim'"):
        reversible(tiny_load("critters-cat"), "ddim")
    with pytest.raises(ValueError, match="sampler: belm walks the ODE of DDIM with eta = 0, got .*Heun"):
        Reversible(model.autoencoder, model.denoiser, model.image_shape, sampler="heun")
    told = reversible(tiny_load("critters-text").given(["a cat", "a dog"], scale=2.0))
    assert told.sample(2).shape == (2, 3, 32, 32)


def test_truncation_makes_pictures_alike(tiny_load):
    model = tiny_load("critters-gan")
    model.network.fit_center()
    spread = [model.replace(psi=psi).sample(16).std(0).mean().item() for psi in (0.0, 0.5, 1.0)]
    assert spread[0] < 1e-5 < spread[1] < spread[2]
    for psi in (-0.1, 1.5):
        with pytest.raises(ValueError, match=rf"psi: expected a number in \[0, 1\], got {psi}"):
            model.replace(psi=psi)


def test_the_code_of_a_ddgan_is_spent_in_order(tiny_load):
    """x_T, then z and eps of each step, and z alone of the last: the chain written out."""
    model = tiny_load("critters-ddgan")
    (x, z1, e1, z2, e2, z3), net = model.random_code(2, seeds=7).split(model.sizes, dim=1), model.network
    assert [part.shape[1] for part in (x, z1, e1)] == [4 * 4 * 4, 6, 4 * 4 * 4] and model.calls == 3
    x = x.reshape(2, 4, 4, 4)
    for step, z, eps in zip(net.grid, (z1, z2, z3), (e1, e2, None)):
        x0 = net(x, torch.full((2,), step.t), z)
        mean, std = DDPM(net.schedule).transition(x, Prediction(x0, x0), step)
        x = x0 if eps is None else mean + std * eps.reshape(2, 4, 4, 4)
    torch.testing.assert_close(model.decode_latents(model.random_code(2, seeds=7)), x, rtol=0, atol=1e-5)


def test_guidance_of_a_diffusion_autoencoder_in_fewer_steps(tiny_load):
    model = tiny_load("critters-diffae").replace(steps=6)
    target = custom(lambda images, code: images.square().flatten(1).mean(1), "dark")
    state = list(guide(model, target, 2, 1, 0.01, gradient_steps=3))[-1]
    torch.testing.assert_close(state.energy, target(model.replace(steps=3).decode(state.code), state.code))
    torch.testing.assert_close(state.images(), model.decode(state.code))
    assert model.calls == 12


def test_the_semantic_code_says_what_and_the_rest_how(tiny_load):
    """Each half changes the picture; encode gives the z_sem of the encoder, by way of its prior."""
    model, images = tiny_load("critters-diffae").replace(steps=100), pictures(2, torch.float64)
    code = model.encode(images)
    z_sem = model.vectors.decode(code[:, None, :16, None, None]).flatten(1)
    exact = model.network.encoder(model.to_latents(images).float()).double()
    assert (z_sem - exact).abs().max() < 0.1 < exact.abs().max()
    first, last = code.clone(), code.clone()
    first[:, :16] += 1
    last[:, 16:] += 1
    assert all((model.decode(moved) - model.decode(code)).abs().max() > 1e-3 for moved in (first, last))
