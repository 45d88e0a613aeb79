"""An AutoencoderKL of diffusers behind our contract, against diffusers itself; and a denoiser trained in its latents."""

from functools import partial

import pytest
import torch

from minidiff import zoo
from minidiff.bridges.autoencoders import open_autoencoder
from minidiff.data.critters import Critters
from minidiff.nets.unet import UNetConfig
from minidiff.training.denoisers import DenoiserRecipe
from minidiff.training.export import export
from minidiff.training.loop import train


@pytest.fixture
def folder(vae, tmp_path):
    vae.register_to_config(scaling_factor=0.25, shift_factor=0.5)
    vae.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


@torch.no_grad()
def test_it_computes_what_diffusers_computes(vae, folder):
    ours, images = zoo.load(f"diffusers:{folder}"), Critters("cat", length=2, size=16)[:]
    theirs = vae.encode(images).latent_dist
    mean, logvar = ours.posterior(images)
    torch.testing.assert_close((mean, logvar), (theirs.mean, theirs.logvar))
    latents = ours.encode(images)
    torch.testing.assert_close(latents, (theirs.mean - 0.5) * 0.25)
    torch.testing.assert_close(ours.decode(latents), vae.decode(theirs.mean).sample)
    assert ours.latent_shape((3, 16, 16)) == (4, 8, 8) == tuple(latents.shape[1:])
    assert not any(weight.requires_grad for weight in ours.parameters())
    with pytest.raises(ValueError, match="images: expected 3 channels and sides that are multiples of 2"):
        ours.encode(torch.zeros(1, 3, 15, 16))


def test_a_denoiser_is_trained_and_kept_in_its_latents(vae, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    recipe = DenoiserRecipe(
        name="tiny-afhq",
        config=UNetConfig(in_channels=4, channels=(32,), attention=(True,), time=16),
        pictures=partial(Critters, species="cat", length=8, size=16, seed=7),
        held_out=partial(Critters, species="cat", length=4, size=16, seed=8),
        autoencoder=f"diffusers:{folder}",
        seed=1,
        steps=2,
        batch=4,
        lr=1e-3,
    )
    list(train(recipe, tmp_path / "run", cpu=True))
    export(tmp_path / "run", chosen=recipe)
    model = zoo.load("tiny-afhq").replace(steps=2)
    assert model.sample(2).shape == (2, 3, 16, 16) and model.latent_shape == (4, 8, 8)
    images = recipe.held_out()[:]
    with torch.no_grad():
        rows = recipe.rows(recipe.held_out(), range(4))
        torch.testing.assert_close(rows["mean"], model.to_latents(images), atol=0.02, rtol=0)  # pictures in 256 values
    torch.nn.init.zeros_(vae.quant_conv.bias)
    vae.save_pretrained(folder)
    with pytest.raises(ValueError, match="tiny-afhq was trained on another diffusers:"):
        zoo.load("tiny-afhq")


def test_what_is_no_autoencoder_is_refused(folder, tmp_path, monkeypatch):
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="expected the folder of an AutoencoderKL, .* has no diffusion_pytorch"):
        open_autoencoder(str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("nobody/nothing", "a/b/c"):
        with pytest.raises(FileNotFoundError, match=f"{name} is no folder here and could not be fetched"):
            open_autoencoder(name)
