import hashlib
import json
import shutil

import pytest
import torch
from safetensors import safe_open

import minidiff
from minidiff import zoo
from minidiff.families import FAMILIES
from minidiff.generators import LatentDiffusion
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.clip import Clip
from minidiff.nets.identity import IdentityNet
from minidiff.nets.probe import Probe
from minidiff.nets.segmenter import Segmenter
from minidiff.training.recipes import RECIPES

KINDS = {"autoencoder": Autoencoder, "clip": Clip, "denoiser": LatentDiffusion, "probe": Probe, "segmenter": Segmenter}
KINDS |= {"identity": IdentityNet} | FAMILIES


def test_the_zoo_holds_what_recipes_make_and_nothing_else():
    assert set(zoo.names()) <= set(RECIPES)
    files = {path.name for path in zoo.WEIGHTS.glob("*.safetensors")}
    assert files == {entry["file"] for entry in zoo.manifest().values()}
    assert sum(entry["bytes"] for entry in zoo.manifest().values()) <= 96e6  # of the 100 that PyPI takes


@pytest.mark.parametrize("name", zoo.names())
def test_every_shipped_file_is_what_the_manifest_says(name):
    entry = zoo.describe(name)
    content = (zoo.WEIGHTS / entry["file"]).read_bytes()
    assert len(content) == entry["bytes"] and hashlib.sha256(content).hexdigest() == entry["sha256"]
    with safe_open(zoo.WEIGHTS / entry["file"], "pt") as file:
        header = {key: json.loads(value) for key, value in file.metadata().items()}
    assert header == {key: value for key, value in entry.items() if key not in ("sha256", "bytes")}
    assert entry["figures"] and entry["steps"] and entry["seconds"] and entry["licence"]
    assert entry["command"].startswith(f"minidiff train {name}")


@pytest.mark.parametrize("name", zoo.names())
@torch.no_grad()
def test_every_shipped_model_loads_and_runs(name):
    model, entry = minidiff.load(name), zoo.describe(name)
    assert type(model) is KINDS[entry["kind"]]
    images = torch.zeros(1, *entry["image_shape"])
    if entry["kind"] == "denoiser":
        modules, t = [model.autoencoder, model.denoiser], torch.tensor([500])
        told = model.given("") if model.text else model
        assert told.denoiser(model.autoencoder.encode(images), t).x0.isfinite().all()
    elif entry["kind"] in FAMILIES:
        modules = [model.autoencoder, model.network]
        assert model.sample(1).shape == images.shape
    else:
        modules = [model]
    if entry["kind"] == "autoencoder":
        assert model.decode(model.encode(images)).shape == images.shape
    if entry["kind"] == "probe":
        assert model.read(images)
    if entry["kind"] == "segmenter":
        assert model.read(images).shape == (1, *images.shape[2:])
    if entry["kind"] == "identity":
        assert model(images).norm(dim=1) == pytest.approx(1, abs=1e-5)
        assert entry["figures"]["held_out_true_rate_at_false_rate_0.01"] >= 0.9
    if entry["kind"] == "clip":
        assert model.encode_images(images).shape == model.encode_text("").shape
        assert min(entry["figures"][f"held_out_{way}"] for way in ("picture_to_caption", "caption_to_picture")) >= 0.9
    for module in modules:
        assert not module.training
        assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in module.parameters())


@pytest.fixture
def small_zoo(tmp_path):
    """A zoo of one untrained autoencoder."""
    from safetensors.torch import save

    config = {"image_channels": 3, "latent_channels": 4, "patch": 2, "encoder": [8, 16], "decoder": [8, 8, 16]}
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderConfig(3, 4, 2, (8, 16), (8, 8, 16)))
    content = save({key: value.half() for key, value in network.state_dict().items()})
    (tmp_path / "tiny.safetensors").write_bytes(content)
    entry = {"file": "tiny.safetensors", "kind": "autoencoder", "config": config}
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps({"models": {"tiny": entry}}))
    return tmp_path


def test_a_small_zoo_loads(small_zoo):
    assert zoo.load("tiny", folder=small_zoo).encode(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 2, 2)


@pytest.mark.parametrize("place", [0, 9, 200, -1])
def test_one_changed_byte_is_refused(small_zoo, place):
    content = bytearray((small_zoo / "tiny.safetensors").read_bytes())
    content[place] ^= 1
    (small_zoo / "tiny.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"tiny.safetensors is damaged or was exchanged: its sha256 is"):
        zoo.load("tiny", folder=small_zoo)


def test_missing_files_and_unknown_names_are_refused(small_zoo):
    with pytest.raises(ValueError, match="no model 'tinny' in the zoo; did you mean 'tiny'"):
        zoo.load("tinny", folder=small_zoo)
    (small_zoo / "tiny.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="the manifest names tiny.safetensors, but there is no such file"):
        zoo.load("tiny", folder=small_zoo)
    shutil.rmtree(small_zoo)
    with pytest.raises(ValueError, match="known are none yet"):
        zoo.load("tiny", folder=small_zoo)


def test_configs_of_another_version_are_refused():
    with pytest.raises(ValueError, match="config: AutoencoderConfig has no colour; it has image_channels"):
        zoo.network_of("autoencoder", {"colour": 1})
    with pytest.raises(
        ValueError, match="kind: expected one of autoencoder, clip, .*denoiser, .*probe, segmenter, .*got 'painting'"
    ):
        zoo.network_of("painting", {})


def test_the_package_face():
    assert minidiff.__version__ and minidiff.load is zoo.load
    with pytest.raises(AttributeError, match="no attribute 'unload'"):
        minidiff.unload  # noqa: B018
