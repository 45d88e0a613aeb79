"""A model of ours as a folder of theirs: diffusers opens it and draws the same pictures."""

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from diffusers.utils import dynamic_modules_utils  # noqa: E402

import minidiff  # noqa: E402
from minidiff.bridges.exported import MinidiffPipeline  # noqa: E402
from minidiff.bridges.networks import DiffusersAutoencoder  # noqa: E402
from minidiff.bridges.pipelines import load_pipeline, save_pipeline  # noqa: E402
from minidiff.denoiser import Denoiser  # noqa: E402
from minidiff.generators import Identity, LatentDiffusion  # noqa: E402
from minidiff.nets.unet import UNet, UNetConfig  # noqa: E402
from minidiff.reversible import reversible  # noqa: E402
from minidiff.schedule import linear  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # theirs


@pytest.fixture
def text_model(tiny_load):
    """A model that reads captions, with every weight at random: an untrained one would not listen."""
    model = tiny_load("critters-text")
    torch.manual_seed(0)
    for weight in [*model.denoiser.net.parameters(), *model.autoencoder.parameters()]:
        torch.nn.init.normal_(weight, std=0.1)
    model.autoencoder.scale.copy_(torch.tensor([0.5, 1.0, 2.0, 3.0]))
    return model


@pytest.fixture
def opened(text_model, tmp_path, monkeypatch):
    """The pipeline that diffusers makes of its folder."""
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    minidiff.save_pipeline(text_model, tmp_path / "deep" / "folder")
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "deep" / "folder", trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("eta", [0.0, 0.1, 1.0])
def test_the_same_pictures(text_model, opened, eta):
    assert isinstance(opened, MinidiffPipeline)
    told = {"negative_prompt": "a dog", "guidance_scale": 2.0}
    settings = {"num_inference_steps": 10, "eta": eta, "seeds": [3, 9], "output_type": "pt"}
    theirs = opened(["a cat", "a red cat"], **told, **settings).images
    ours = text_model.given(["a cat", "a red cat"], negative="a dog", scale=2.0).replace(steps=10, eta=eta)
    ours = ours.sample(seeds=[3, 9])
    torch.testing.assert_close(theirs, (ours / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)
    other = opened(["a dog", "a dog"], **settings).images
    assert (other - theirs).abs().max() > 1e-3
    label = opened(label=1, batch_size=2, **settings).images
    ours = text_model.given(label=1).replace(steps=10, eta=eta).sample(2, seeds=[3, 9])
    torch.testing.assert_close(label, (ours / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_its_autoencoder_is_one_of_theirs(text_model, opened):
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    found = opened.vae.encode(images).latent_dist
    torch.testing.assert_close(found.mean, text_model.to_latents(images), rtol=0, atol=1e-5)
    mean, logvar = text_model.autoencoder.posterior(images)
    torch.testing.assert_close(found.std, (logvar / 2).exp() / text_model.autoencoder.scale.view(-1, 1, 1))
    latents = found.mean / opened.vae.config.scaling_factor
    torch.testing.assert_close(opened.vae.decode(latents).sample, text_model.to_images(found.mean), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "UniPCMultistepScheduler"]
)
def test_it_takes_other_schedulers(opened, name):
    """diffusers' Euler and DDIM are one method at eta = 0; the others at least draw."""
    settings = {"num_inference_steps": 20, "eta": 0.0, "output_type": "latent"}
    ddim = opened("a cat", **settings).images
    opened.scheduler = getattr(diffusers, name).from_config(opened.scheduler.config)
    found = opened("a cat", **settings).images
    assert found.isfinite().all()
    if name == "EulerDiscreteScheduler":
        torch.testing.assert_close(found, ddim, rtol=0, atol=1e-2)


def test_refusals_of_the_pipeline(opened):
    with pytest.raises(ValueError, match="num_inference_steps: .* a divisor of 1000, got 30"):
        opened("a cat", num_inference_steps=30)
    with pytest.raises(ValueError, match="no such word|catt"):
        opened("a catt", num_inference_steps=2)
    config = opened.scheduler.config
    opened.scheduler = diffusers.DDIMScheduler.from_config(config, prediction_type="epsilon")
    with pytest.raises(ValueError, match="predicts 'v_prediction' and the scheduler reads 'epsilon'"):
        opened("a cat")
    opened.scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction")
    with pytest.raises(
        ValueError, match="expected the noise levels that lie in the folder, as trained_betas, got none"
    ):
        opened("a cat")


def test_there_and_back(text_model, opened, tmp_path):
    """Also without running the code that lies in the folder."""
    ours = text_model.given("a cat").replace(steps=5).sample(1)
    (tmp_path / "deep" / "folder" / "pipeline.py").write_text("raise AssertionError('this was run')")
    back = load_pipeline(tmp_path / "deep" / "folder")
    assert back.image_shape == text_model.image_shape and isinstance(back.denoiser.net, UNet)
    assert load_pipeline(tmp_path / "deep" / "folder", size=64).image_shape == (3, 64, 64)
    with pytest.raises(ValueError, match="attention_slicing, cpu_offload: only for networks of diffusers"):
        load_pipeline(tmp_path / "deep" / "folder", attention_slicing=True)
    torch.testing.assert_close(back.given("a cat").replace(steps=5).sample(1), ours, rtol=0, atol=1e-5)
    opened.save_pretrained(tmp_path / "again")
    again = MinidiffPipeline.from_pretrained(tmp_path / "again", dtype=torch.bfloat16)
    assert again.unet.dtype == torch.bfloat16
    again.enable_model_cpu_offload(device="cpu")
    assert len(again("a cat", num_inference_steps=2).images) == 1


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_a_model_in_pixels(tmp_path, predicts):
    torch.manual_seed(1)
    net = UNet(UNetConfig(in_channels=1, channels=(8, 32), attention=(False, True), time=16))
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    model = LatentDiffusion(Identity(), Denoiser(net.eval(), linear(), predicts), (1, 8, 8), steps=10)
    pipe = MinidiffPipeline.from_pretrained(save_pipeline(model, tmp_path / "pixels"))
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(batch_size=2, num_inference_steps=10, output_type="latent").images
    torch.testing.assert_close(theirs, model.sample(2), rtol=1e-5, atol=1e-5)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".py", ".safetensors"}


def test_what_a_folder_of_theirs_cannot_say(text_model, vae, tmp_path):
    net, schedule = text_model.denoiser.net, text_model.denoiser.schedule
    flow = text_model.replace(denoiser=Denoiser(net, schedule, "flow"))
    for model, says in [
        (text_model.given("a cat"), "a Denoiser with a UNet, not told anything, got Autoencoder and Guided"),
        (flow, "DDIM reads eps, x0, v, this model predicts 'flow'"),
        (text_model.replace(sampler="heun"), "expected sampler 'ddim' and spacing 'trailing', got Heun and 'trailing'"),
        (text_model.replace(spacing="uniform"), "got DDIM and 'uniform'"),
        (text_model.replace(autoencoder=DiffusersAutoencoder(vae)), "got DiffusersAutoencoder and Denoiser"),
        (reversible(text_model), "model: expected a LatentDiffusion, got a Reversible"),
    ]:
        with pytest.raises(ValueError, match=says):
            save_pipeline(model, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="folder: expected a new or an empty folder"):
        save_pipeline(text_model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
