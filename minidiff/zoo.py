"""The zoo: trained models as safetensors; hash, recipe, figures and licence of each in a manifest people can read.

`load("critters-cat")` checks the hash before it reads a single weight; nothing here unpickles anything.
"""

import dataclasses
import difflib
import hashlib
import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as from_bytes
from torch import nn

from minidiff.eight_bits import unpack

WEIGHTS = Path(__file__).parent / "weights"
MANIFEST = "manifest.json"
GENERATORS = ("denoiser", "ddgan", "diffae", "flow", "gan", "vae")  # kinds that make pictures of codes
OPEN_CLIP, DIFFUSERS = "open_clip:", "diffusers:"  # before the name of a model that is not ours


class UnknownModel(ValueError):
    """There is no model of that name in the zoo."""


def load(name: str, device: torch.device | str = "cpu", folder: str | Path | None = None) -> Any:
    """A trained model by name: Autoencoder, LatentDiffusion or one of minidiff.families (with its autoencoder), Probe, Clip,
    Segmenter, IdentityNet; float32, eval, frozen.

    `folder` holds the weights and their manifest; None is the zoo that ships with the package. "diffusers:" before a folder
    or a name of the hub gives the AutoencoderKL there (see `minidiff.bridges.autoencoders`).
    Raises UnknownModel (a ValueError) for an unknown name, ValueError for a file that is not, byte for byte, the one in the
    manifest, FileNotFoundError when the file is not there.
    """
    if name.startswith(DIFFUSERS):
        from minidiff.bridges.autoencoders import open_autoencoder

        return open_autoencoder(name.removeprefix(DIFFUSERS), device)
    entry = describe(name, folder)
    network = build(entry, folder).to(device)
    if entry["kind"] not in GENERATORS:
        return network
    for part in ("autoencoder", "text"):
        if entry.get(part):
            check_partner(name, entry, part, folder)
    return generator(entry, network, device, folder)


def generator(entry: dict, network: nn.Module, device: torch.device | str, folder: str | Path | None) -> Any:
    """The map from codes to images that a network of the zoo is a part of."""
    from minidiff.denoiser import Denoiser
    from minidiff.families import FAMILIES
    from minidiff.generators import Identity, LatentDiffusion
    from minidiff.schedule import schedule

    autoencoder = load(entry["autoencoder"], device, folder) if entry.get("autoencoder") else Identity().eval()
    shape = tuple(entry["image_shape"])
    if entry["kind"] in FAMILIES:
        return FAMILIES[entry["kind"]](autoencoder, network, shape)
    encoder = cache(partial(load_clip, entry["text"], device, folder)) if "text" in entry else None
    denoiser = Denoiser(network, schedule(entry["schedule"]), entry["predicts"]).eval().requires_grad_(False)
    return LatentDiffusion(autoencoder, denoiser.to(device), shape, text=encoder)


def load_clip(name: str = "critters-clip", device: torch.device | str = "cpu", folder: str | Path | None = None) -> Any:
    """A CLIP by name: one of the zoo, or any of open_clip's as "open_clip:ARCH/PRETRAINED" ("open_clip:ViT-B-32/openai").

    Raises what `load` raises, ValueError for a model that is no CLIP, and ConnectionError when open_clip cannot fetch it.
    """
    if name.startswith(OPEN_CLIP):
        from minidiff.nets.clip import pretrained

        return pretrained(name.removeprefix(OPEN_CLIP), device)
    kind = describe(name, folder)["kind"]
    if kind != "clip":
        raise ValueError(
            f"name: expected a CLIP, such as 'critters-clip' or '{OPEN_CLIP}ViT-B-32/openai'; {name} is a {kind}"
        )
    return load(name, device, folder)


def names(folder: str | Path | None = None) -> list[str]:
    """The models there are."""
    return sorted(manifest(folder))


def manifest(folder: str | Path | None = None) -> dict[str, dict]:
    """Everything known about each model, by name."""
    path = Path(folder or WEIGHTS) / MANIFEST
    return json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else {}


def describe(name: str, folder: str | Path | None = None) -> dict:
    """The manifest's entry for one model. Raises UnknownModel for an unknown name, with the nearest known one.

    The weights that open_clip fetches are known by their name alone.
    """
    if str(name).startswith(OPEN_CLIP):
        return {"kind": "clip", "sha256": hashlib.sha256(name.encode()).hexdigest()}
    if str(name).startswith(DIFFUSERS):
        from minidiff.bridges.autoencoders import describe as describe_theirs

        return describe_theirs(name.removeprefix(DIFFUSERS))
    models = manifest(folder)
    if name not in models:
        near = difflib.get_close_matches(str(name), models, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownModel(
            f"name: no model {name!r} in the zoo; {hint}known are {', '.join(sorted(models)) or 'none yet'}"
        )
    return models[name]


def read_verified(entry: dict, folder: str | Path | None = None) -> bytes:
    """The bytes of a model's file, once their hash has been found right."""
    path = Path(folder or WEIGHTS) / entry["file"]
    if not path.is_file():
        raise FileNotFoundError(f"zoo: the manifest names {entry['file']}, but there is no such file in {path.parent}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise ValueError(
            f"zoo: {entry['file']} is damaged or was exchanged: its sha256 is {found}, the manifest says "
            f"{entry['sha256']}; restore it from the repository"
        )
    return content


def build(entry: dict, folder: str | Path | None = None) -> nn.Module:
    """The network of a manifest entry with its trained weights, float32, eval, frozen."""
    weights = from_bytes(read_verified(entry, folder))
    network = network_of(entry["kind"], entry["config"])
    network.load_state_dict(unpack(weights))
    return network.eval().requires_grad_(False)


def network_of(kind: str, config: dict) -> nn.Module:
    """An untrained network from its kind ("autoencoder", "denoiser", "probe", ...) and its config as JSON data."""
    from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
    from minidiff.nets.clip import ClipConfig, new_clip
    from minidiff.nets.ddgan import DDGANConfig, DDGANNetwork
    from minidiff.nets.diffae import DiffAEConfig, DiffAENetwork
    from minidiff.nets.flow import FlowConfig, FlowNetwork
    from minidiff.nets.gan import GANConfig, GANNetwork
    from minidiff.nets.identity import IdentityConfig, IdentityNet
    from minidiff.nets.probe import Probe, ProbeConfig
    from minidiff.nets.segmenter import Segmenter, SegmenterConfig
    from minidiff.nets.unet import UNet, UNetConfig
    from minidiff.nets.vae import VAEConfig, VAENetwork

    kinds = {
        "autoencoder": (AutoencoderConfig, Autoencoder),
        "clip": (ClipConfig, new_clip),
        "ddgan": (DDGANConfig, DDGANNetwork),
        "denoiser": (UNetConfig, UNet),
        "diffae": (DiffAEConfig, DiffAENetwork),
        "flow": (FlowConfig, FlowNetwork),
        "gan": (GANConfig, GANNetwork),
        "identity": (IdentityConfig, IdentityNet),
        "probe": (ProbeConfig, Probe),
        "segmenter": (SegmenterConfig, Segmenter),
        "vae": (VAEConfig, VAENetwork),
    }
    if kind not in kinds:
        raise ValueError(f"kind: expected one of {', '.join(kinds)}, got {kind!r}")
    config_class, network_class = kinds[kind]
    known = [field.name for field in dataclasses.fields(config_class)]
    if unknown := set(config) - set(known):
        raise ValueError(
            f"config: {config_class.__name__} has no {', '.join(sorted(unknown))}; it has {', '.join(known)}"
        )
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    return network_class(config_class(**values))


def check_partner(name: str, entry: dict, part: str, folder: str | Path | None) -> None:
    """Raises ValueError when the "autoencoder" or "text" encoder was replaced after this model was trained on it."""
    current, then = describe(entry[part], folder)["sha256"], entry[f"{part}_sha256"]
    if current != then:
        raise ValueError(
            f"zoo: {name} was trained on another {entry[part]} ({then[:12]}, now {current[:12]}); train it again"
        )
