"""ONNX files against PyTorch: pictures made by onnxruntime and numpy alone are the ones that minidiff makes."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from minidiff import cli, zoo
from minidiff.bridges.networks import ClippedDenoiser
from minidiff.bridges.onnx import TOLERANCE, check, difference, networks, sampling, to_onnx
from minidiff.data.critters import Critters
from minidiff.denoiser import Denoiser, Prediction
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.reversible import reversible
from minidiff.seeds import normal


@pytest.fixture
def folder(tiny_load, tmp_path, monkeypatch):
    """What `minidiff export` makes of a tiny model; and that model, with the same settings."""
    monkeypatch.setattr(cli, "_diffusion", lambda name, device: tiny_load(name))
    monkeypatch.setattr(sys, "argv", ["minidiff", "export", "critters-cat", "--onnx", str(tmp_path), "--eta", "0.5"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    return tmp_path, tiny_load("critters-cat").replace(eta=0.5)


def runner(path):
    session = onnxruntime.InferenceSession(path)
    return lambda **inputs: session.run(None, inputs)


def test_samples_and_codes_without_pytorch_are_the_same(folder):
    """The page's own program: encode a picture with one loop over the steps, decode the code with another."""
    folder, model = folder
    assert {path.name for path in folder.iterdir()} == {"encoder.onnx", "decoder.onnx", "denoiser.onnx", "sampler.json"}
    encoder, decoder, denoiser = (runner(folder / f"{name}.onnx") for name in ("encoder", "decoder", "denoiser"))
    plan = json.loads((folder / "sampler.json").read_text())
    assert plan["name"] == "critters-cat" and plan["licence"] == zoo.describe("critters-cat")["licence"]
    assert plan["shapes"]["code"] == list(model.code_shape) and len(plan["steps"]) == 4

    def mean_of(step, x, x0, eps):
        return (step["x_t"] * x + step["x0"] * x0 + step["eps"] * eps).astype(np.float32)

    def look(x, t):
        return denoiser(x=x, t=np.full(len(x), t))

    images, seeds = Critters("cat", seed=2, size=32)[:5], torch.arange(5)  # another batch than the export's own
    (latents,) = encoder(images=images.numpy())
    noise = [normal(seeds, model.latent_shape, f"path {k}").numpy() for k in range(5)]
    x = plan["start"]["signal"] * latents + plan["start"]["noise"] * noise[0]
    code = [x := x.astype(np.float32)]
    for k, step in enumerate(plan["steps"], 1):
        abar = model.denoiser.schedule.abar_at(step["t"])
        truth = (x - abar**0.5 * latents) / (1 - abar) ** 0.5
        goal = mean_of(step, x, latents, truth) + step["std"] * noise[k]
        mean = mean_of(step, x, *look(x, step["t"]))
        code.append((goal - mean) / (step["std"] or 1.0))
        x = goal.astype(np.float32)
    code = np.stack(code, 1)
    torch.testing.assert_close(torch.from_numpy(code), model.encode(images, seeds), rtol=1e-3, atol=1e-3)

    x = code[:, 0]
    for k, step in enumerate(plan["steps"], 1):
        x = mean_of(step, x, *look(x, step["t"])) + np.float32(step["std"] or 1.0) * code[:, k]
    (found,) = decoder(latents=x)
    torch.testing.assert_close(torch.from_numpy(x), torch.from_numpy(latents), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.from_numpy(found), model.to_images(model.to_latents(images)), rtol=1e-3, atol=1e-3)


def test_a_model_that_is_told_things_keeps_its_ears(tiny_load):
    """Tokens of any number, a mask over them, and features: with other lengths than those it was exported with."""
    model = tiny_load("critters-maps")
    told = check(model)
    assert told == ("tokens", "mask", "features")
    module, inputs, outputs = networks(model, told)["denoiser"]
    batch, tokens = torch.export.Dim("batch", min=1), torch.export.Dim("tokens", min=1)
    free = {name: {0: batch, 1: tokens} if name in ("tokens", "mask") else {0: batch} for name in inputs}
    content = to_onnx(module, inputs, outputs, free)
    _, others, _ = networks(model, told, items=3, length=5)["denoiser"]
    assert difference(content, module, others) < TOLERANCE
    module.net.last.bias.add_(1.0)
    assert difference(content, module, others) > 10 * TOLERANCE  # and the check does see a difference


def test_a_step_in_numbers_is_the_sampler(tiny_load):
    model = tiny_load("critters-cat").replace(sampler="ddpm", steps=5)
    x_t, x0, eps = torch.randn(3, 2, *model.latent_shape, dtype=torch.float64)
    for numbers, step in zip(sampling(model)["steps"], model.grid, strict=True):
        mean, std = model.sampler.transition(x_t, Prediction(x0, eps), step)
        ours = numbers["x_t"] * x_t + numbers["x0"] * x0 + numbers["eps"] * eps
        torch.testing.assert_close(ours, mean)
        assert numbers["std"] == std and (numbers["t"], numbers["s"]) == (step.t, step.s)


def test_what_cannot_be_exported_is_refused(tiny_load):
    model = tiny_load("critters-cat")
    with pytest.raises(ValueError, match="model: expected a plain Denoiser, told nothing yet, got a Guided"):
        check(tiny_load("critters-text").given("a cat"))
    clipped = ClippedDenoiser(model.denoiser.net, model.denoiser.schedule, "v", bound=1.0)
    with pytest.raises(ValueError, match="model: expected a plain Denoiser, .* got a ClippedDenoiser"):
        check(model.replace(denoiser=clipped))
    with pytest.raises(ValueError, match="model: expected a LatentDiffusion, got a Reversible"):
        check(reversible(model))
    with pytest.raises(ValueError, match="sampler: expected one that looks once a step, such as 'ddim', got Heun"):
        check(model.replace(sampler="heun"))
    with pytest.raises(ValueError, match="spacing: expected whole noise levels, got .* from 'karras'"):
        check(model.replace(spacing="karras"))
    other = Denoiser(torch.nn.Identity(), model.denoiser.schedule, "v")
    with pytest.raises(ValueError, match="model: expected minidiff's own U-Net, got Identity; `optimum-cli"):
        check(model.replace(denoiser=other))
    config = AutoencoderConfig(latent_channels=4, encoder=(8, 16), decoder=(8, 8, 16), bottleneck="vq", codes=4)
    with pytest.raises(ValueError, match="model: quantised latents cannot be exported"):
        check(model.replace(autoencoder=Autoencoder(config)))
