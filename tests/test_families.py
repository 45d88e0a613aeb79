"""What every generator promises: one map from codes to pictures, item by item, to guide and to walk about in."""

import pytest
import torch

from minidiff import codes
from minidiff.energies import custom
from minidiff.guide import guide

MODELS = ("diffusion", "ode", "vae")


@pytest.fixture(params=MODELS)
def model(request, tiny_load):
    """One of each family, small and untrained, for pictures of 32 x 32."""
    return made(tiny_load, request.param)


def made(tiny_load, kind):
    if kind in ("diffusion", "ode"):
        return tiny_load("critters-cat").replace(eta=0.5 if kind == "diffusion" else 0.0)
    return tiny_load(f"critters-{kind}")


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
        torch.testing.assert_close(samples, other, rtol=0, atol=1e-5)
    torch.testing.assert_close(samples[3:4], model.sample(1, seeds=23), rtol=0, atol=1e-5)
    torch.testing.assert_close(samples[[1, 4]], model.sample(2, seeds=[21, 24]), rtol=0, atol=1e-5)


def test_pictures_keep_the_dtype_of_their_code_and_follow_the_device(model):
    code = model.random_code(2, dtype=torch.float64)
    assert code.dtype == torch.float64 and model.decode(code).dtype == torch.float64
    assert model.decode(code.float()).dtype == torch.float32
    torch.testing.assert_close(model.decode(code).float(), model.decode(code.float()), rtol=0, atol=1e-3)
    assert model.to("cpu") is model and model.device == torch.device("cpu")
    assert model.to("meta") is model and model.device == torch.device("meta")  # nothing is made anywhere else
    images = model.sample(2)
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


@pytest.mark.parametrize("kind", MODELS)
def test_encode_gives_codes_and_refuses_what_is_no_picture(tiny_load, kind):
    model, images = made(tiny_load, kind), pictures(3, torch.float64)
    code = model.encode(images)
    assert code.shape == (3, *model.code_shape) and code.dtype == torch.float64
    torch.testing.assert_close(model.encode(images, seeds=5)[1:2], model.encode(images[1:2], seeds=6), rtol=0, atol=1e-4)
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
