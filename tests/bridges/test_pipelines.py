"""Whole pipelines, from a folder or in memory: what they draw, ours draws; what does not fit is refused by name."""

import json
import sys

import pytest
import torch
from PIL import Image

diffusers = pytest.importorskip("diffusers")

import minidiff  # noqa: E402
from minidiff import cli  # noqa: E402
from minidiff.bridges import pipelines  # noqa: E402
from minidiff.bridges.pipelines import from_pipeline, load_pipeline  # noqa: E402
from minidiff.bridges.schedulers import Levels  # noqa: E402
from minidiff.generators import Identity, LatentDiffusion  # noqa: E402
from minidiff.seeds import as_seeds, normal  # noqa: E402


@pytest.fixture
def pixels(pixel_unet, tmp_path):
    """The folder of a pipeline without an autoencoder and without words."""
    diffusers.DDPMPipeline(pixel_unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "pixels")
    return tmp_path / "pixels"


@pytest.fixture
def minidiff_says(monkeypatch, capsys, tmp_path):
    """Run `minidiff ARGS` in a folder of its own; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["minidiff", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (stop.value.code or 0, *capsys.readouterr())

    return run


def index(tmp_path, kind, **parts):
    """A folder that says what it has and holds no weights."""
    listed = {name: [library, part] for name, (library, part) in parts.items()}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind} | listed))
    return tmp_path


def test_a_pipeline_in_pixels(pixels, pixel_unet):
    model = minidiff.load_pipeline(pixels)
    assert isinstance(model, LatentDiffusion) and isinstance(model.autoencoder, Identity)
    assert (model.image_shape, model.spacing, model.text) == ((3, 8, 8), Levels("leading"), None)
    assert not any(weight.requires_grad for weight in model.denoiser.parameters())
    model = model.replace(steps=5)
    images = normal(as_seeds(0, 2), (3, 8, 8)).clamp(-1, 1)
    torch.testing.assert_close(model.decode(model.encode(images)), images, rtol=0, atol=1e-4)

    theirs = diffusers.DDIMScheduler.from_config(diffusers.DDPMScheduler().config)
    theirs.set_timesteps(5)
    x = start = model.replace(eta=0).random_code(2)[:, 0]
    for t in theirs.timesteps:
        x = theirs.step(pixel_unet(x, t).sample, t, x).prev_sample
    ours = model.replace(eta=0).decode(start[:, None])
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="text: this model was not trained with captions"):
        model.given("a cat")


def test_the_command_line_draws_from_a_folder(minidiff_says, pixels):
    code, out, err = minidiff_says("sample", pixels, "-n", 2, "--steps", 2, "-o", "two.png")
    assert (code, out) == (0, "Wrote two.png\n"), err
    code, _, err = minidiff_says("edit", "--model", pixels, "--source", "cat", "--target", "dog")
    assert code == 2 and "has no pictures of its own to edit" in err
    code, _, err = minidiff_says("edit", "--save-memory", "half", "--target", "a cat")
    assert code == 2 and "--save-memory: only for pipelines of diffusers, critters-text is small" in err


def test_fast_asks_networks_of_others_as_they_are(model, pixels):
    """The captioned model stands for Stable Diffusion."""
    told = model.given("cat", scale=2.0)
    ours = model.replace(autoencoder=Identity(), image_shape=model.latent_shape).given("cat")
    for each in (told, ours, load_pipeline(pixels).replace(steps=3)):
        for fast in (True, "winograd"):
            torch.testing.assert_close(each.sample(2, fast=fast), each.sample(2), rtol=0, atol=1e-5)


def test_the_size_can_be_given(pixel_unet):
    pipe = diffusers.DDPMPipeline(pixel_unet, diffusers.DDPMScheduler())
    assert from_pipeline(pipe, size=16).image_shape == (3, 16, 16)
    pixel_unet.register_to_config(sample_size=(4, 8))
    assert from_pipeline(pipe).image_shape == (3, 4, 8)
    pixel_unet.register_to_config(sample_size=None)
    with pytest.raises(ValueError, match="size: the U-Net does not say how large its pictures are"):
        from_pipeline(pipe)


def test_what_to_do_about_a_model_that_is_not_here(tmp_path, pixels, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match="hf download nobody/nothing --local-dir nothing`; then give that folder"
    ):
        load_pipeline("nobody/nothing", local_files_only=True, cache_dir=tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="expected a folder or the id of a model, 'owner/name', got 'nothing'"):
        load_pipeline("nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="empty is no diffusers folder: it has no model_index.json"):
        load_pipeline(empty)
    for weights in pixels.rglob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))  # as pickles are called
    with pytest.raises(FileNotFoundError, match="pixels is incomplete, its weights must be safetensors: .*safetensors"):
        load_pipeline(pixels)


SD = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "scheduler": ("diffusers", "PNDMScheduler"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "safety_checker": (None, None),
}


@pytest.mark.parametrize(
    ("kind", "parts", "says"),
    [
        (
            "FluxPipeline",
            {name: part for name, part in SD.items() if name != "unet"} | {"transformer": ("diffusers", "Flux")},
            "FluxPipeline: expected the parts unet, scheduler, vae, text_encoder, tokenizer; missing unet; "
            "it has scheduler, vae, text_encoder, tokenizer, transformer",
        ),
        ("Bare", {"unet": SD["unet"], "scheduler": SD["scheduler"]}, "missing vae, text_encoder, tokenizer"),
        ("LDMPipeline", {"vqvae": ("diffusers", "VQModel"), "unet": ("diffusers", "UNet2DModel")}, "missing scheduler"),
        (
            "LDMPipeline",
            {"vqvae": ("diffusers", "VQModel"), "unet": ("diffusers", "UNet2DModel"), "scheduler": SD["scheduler"]},
            "LDMPipeline: expected only unet, scheduler; minidiff has no place for vqvae",
        ),
        ("SDXL", SD | {"text_encoder_2": SD["text_encoder"]}, "minidiff has no place for text_encoder_2"),
        ("Video", SD | {"unet": ("diffusers", "UNet3D")}, "a unet that is a UNet2DModel or .*, got UNet3D"),
        ("Tiny", SD | {"vae": ("diffusers", "AutoencoderTiny")}, "an AutoencoderKL, got AutoencoderTiny"),
    ],
)
def test_pipelines_of_other_parts_name_what_is_missing(tmp_path, monkeypatch, kind, parts, says):
    monkeypatch.setattr(pipelines, "find_spec", lambda name: "here")
    with pytest.raises(ValueError, match=says):
        load_pipeline(index(tmp_path, kind, **parts))


def test_words_need_transformers(tmp_path, monkeypatch):
    monkeypatch.setattr(pipelines, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs transformers: pip install transformers"):
        load_pipeline(index(tmp_path, "StableDiffusionPipeline", **SD))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cpu_offload": "all"}, "cpu_offload: expected None, 'model' or 'sequential', got 'all'"),
        ({"cpu_offload": "model"}, "expected the device to compute on, such as 'cuda', got device cpu"),
    ],
)
def test_settings_are_looked_at_first(settings, says):
    with pytest.raises(ValueError, match=says):
        load_pipeline("nobody/nothing", **settings)


@pytest.fixture
def stable_diffusion(parts):
    pipe = diffusers.StableDiffusionPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_stable_diffusion_draws_the_same(stable_diffusion, tmp_path):
    stable_diffusion.save_pretrained(tmp_path / "stable")
    model = load_pipeline(tmp_path / "stable").replace(steps=10, eta=0)
    assert (model.image_shape, model.latent_shape, model.spacing) == ((3, 16, 16), (4, 8, 8), Levels("leading", 1, 0))
    code = model.random_code(2)
    said = {"prompt": ["cat", "dog"], "negative_prompt": ["ape", "ape"], "latents": code[:, 0], "guidance_scale": 3.0}
    theirs = stable_diffusion(num_inference_steps=10, output_type="pt", **said).images
    ours = model.given(["cat", "dog"], negative="ape", scale=3.0).decode(code)
    torch.testing.assert_close((ours / 2 + 0.5).clamp(0, 1), theirs, rtol=0, atol=1e-4)


def test_memory_switches_change_little_or_nothing(stable_diffusion, tmp_path):
    stable_diffusion.save_pretrained(tmp_path / "stable")

    def drawn(**switches):
        return load_pipeline(tmp_path / "stable", **switches).replace(steps=5).given("cat", scale=2.0).sample(1)

    plain = drawn()
    torch.testing.assert_close(drawn(attention_slicing=True), plain, rtol=0, atol=1e-4)
    half = drawn(dtype=torch.bfloat16)
    assert half.dtype == torch.float32 and 0 < (half - plain).abs().max() < 0.1


def test_offloaded_pipelines_draw_the_same(stable_diffusion):
    """With the processor in the place of an accelerator; test_networks has the other kind of offloading."""

    def drawn():
        model = from_pipeline(stable_diffusion).replace(steps=5).given("cat", scale=2.0)
        assert model.device.type == "cpu"
        return model.decode(model.encode(torch.zeros(1, 3, 16, 16), seeds=3))

    plain = drawn()
    stable_diffusion.enable_model_cpu_offload(device="cpu")
    assert hasattr(stable_diffusion.unet, "_hf_hook")
    torch.testing.assert_close(drawn(), plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("options", [(), ("--control", "refine", "--save-memory", "slicing"), ("--method", "sdedit")])
def test_the_command_line_edits_a_photo(minidiff_says, stable_diffusion, tmp_path, options):
    stable_diffusion.save_pretrained(tmp_path / "stable")
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "photo.png")
    said = ("--source", "cat", "--target", "dog", "--steps", 4)
    code, out, err = minidiff_says("edit", "photo.png", "--model", "stable", *said, *options)
    assert (code, out) == (0, "Wrote edit.png, from the top: source, edit\n"), err
    assert (tmp_path / "edit.png").is_file()


def test_the_command_line_translates_between_folders_without_words(minidiff_says, stable_diffusion, tmp_path):
    """Two fine-tuned Stable Diffusions are two models as any, asked under the empty caption."""
    stable_diffusion.save_pretrained(tmp_path / "stable")
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "photo.png")
    code, out, err = minidiff_says("translate", "--from", "stable", "--to", "stable", "photo.png", "--steps", 4)
    assert (code, out) == (0, "Wrote translation.png, from the top: stable, cyclediffusion\n"), err


def test_a_network_for_inpainting_is_refused(stable_diffusion, vae):
    vae.register_to_config(latent_channels=3)
    with pytest.raises(ValueError, match="unet: expected the 3 channels of the latents, got 4"):
        from_pipeline(stable_diffusion)
