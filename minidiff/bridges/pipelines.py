"""Stable Diffusion, or any diffusers pipeline of the same parts, as an ordinary LatentDiffusion; and the way back.

What edits, encodes, translates and guides our own models then does so with theirs (Rombach et al., CVPR 2022).
"""

import os
import re
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin

from minidiff.bridges.exported import HUB, LOADER, MinidiffPipeline
from minidiff.bridges.networks import DiffusersAutoencoder, DiffusersText, as_denoiser
from minidiff.bridges.schedulers import training_of
from minidiff.generators import Identity, LatentDiffusion, Shape

NEEDED = {  # by the U-Net's kind
    "UNet2DModel": ("unet", "scheduler"),
    "UNet2DConditionModel": ("unet", "scheduler", "vae", "text_encoder", "tokenizer"),
}
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")  # parts that no LatentDiffusion runs
OFFLOADS = ("model", "sequential")


def load_pipeline(
    name: str | Path,
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    size: int | None = None,
    attention_slicing: bool = False,
    cpu_offload: str | None = None,
    **options: Any,
) -> LatentDiffusion:
    """A diffusers folder, or the id of a model on the Hugging Face Hub ("owner/name"), as a LatentDiffusion.

    dtype is the networks'; the sampler's states keep float32. Two switches save more memory: attention_slicing, and
    cpu_offload ("model", or slower and smaller "sequential"), which leaves the weights in main memory until they compute on
    `device`. size is the side of the pictures, by default what the U-Net was trained for; further options (variant,
    revision, local_files_only, ...) are those of `DiffusionPipeline.from_pretrained`. Only safetensors are read.
    Raises FileNotFoundError when the model is neither here nor to be fetched, and ValueError for a pipeline with other parts
    or a setting that minidiff would not treat as diffusers does, as far as possible before the weights are read.
    """
    if cpu_offload not in (None, *OFFLOADS):
        raise ValueError(f"cpu_offload: expected None, {' or '.join(map(repr, OFFLOADS))}, got {cpu_offload!r}")
    if cpu_offload and torch.device(device).type == "cpu":
        raise ValueError(f"cpu_offload: expected the device to compute on, such as 'cuda', got device {device!s}")
    parts = parts_of(name, options)
    if parts["_class_name"] == LOADER:
        if attention_slicing or cpu_offload:
            raise ValueError(
                f"attention_slicing, cpu_offload: only for networks of diffusers; those of {name} are ours"
            )
        kind, absent = MinidiffPipeline, {}
    else:
        check_parts(str(parts["_class_name"]), parts)
        kind, absent = DiffusionPipeline, {part: None for part in LEFT_OUT if part in parts}
    try:
        pipe = kind.from_pretrained(name, dtype=dtype, use_safetensors=True, **absent, **options)
    except OSError as error:
        raise not_found(name, error) from error
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if attention_slicing:
        pipe.enable_attention_slicing()
    if cpu_offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif cpu_offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    return from_pipeline(pipe, size)


def from_pipeline(pipe: DiffusionPipeline, size: int | None = None) -> LatentDiffusion:
    """A pipeline that is in memory, with whatever switches were set on it, as a LatentDiffusion; nothing is copied.

    Its grid is the one that the pipeline's scheduler asks for (see `schedulers.training_of`), its sampler DDIM.
    Raises ValueError for a pipeline with other parts, or one whose parts do not fit together.
    """
    if isinstance(pipe, MinidiffPipeline):
        model = pipe.as_latent_diffusion()
        return model if size is None else model.replace(image_shape=(model.image_shape[0], size, size))
    check_parts(
        type(pipe).__name__, {name: type(part).__name__ for name, part in pipe.components.items() if part is not None}
    )
    denoiser, vae = as_denoiser(pipe.unet, pipe.scheduler), getattr(pipe, "vae", None)
    autoencoder = Identity() if vae is None else DiffusersAutoencoder(vae)
    text = DiffusersText(pipe.text_encoder, pipe.tokenizer) if denoiser.net.config.context else None
    return LatentDiffusion(
        autoencoder,
        denoiser,
        image_shape_of(pipe.unet, autoencoder, size),
        text=text and (lambda: text),
        spacing=training_of(pipe.scheduler).spacing,
    )


def image_shape_of(unet: ModelMixin, autoencoder: DiffusersAutoencoder | Identity, size: int | None) -> Shape:
    """(C, H, W) of the pictures: of side `size`, or what the U-Net was trained for.

    Raises ValueError for a U-Net that works on something else than the autoencoder's latents, or one that says no size.
    """
    channels, sides, factor = unet.config.in_channels, unet.config.sample_size, 1
    if isinstance(autoencoder, DiffusersAutoencoder):
        config = autoencoder.config
        if channels != config.latent_channels:
            raise ValueError(f"unet: expected the {config.latent_channels} channels of the latents, got {channels}")
        channels, factor = config.image_channels, config.factor
    if size is not None:
        return channels, size, size
    if sides is None:
        raise ValueError("size: the U-Net does not say how large its pictures are; give the side in pixels")
    height, width = (sides, sides) if isinstance(sides, int) else sides
    return channels, factor * height, factor * width


def save_pipeline(model: LatentDiffusion, folder: str | Path) -> Path:
    """Write a model of minidiff as a folder that diffusers opens, where minidiff is installed, to draw the same pictures.

    It is opened by `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`, or without running the few lines of
    code that lie in it by `MinidiffPipeline.from_pretrained(folder)`; pictures of equal seeds are equal.
    Raises ValueError for a model that diffusers has no words for, or a folder that has files in it.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder: expected a new or an empty folder, got {folder}, which is there")
    pipe = MinidiffPipeline.of(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        pipe.save_pretrained(Path(temporary) / "whole")
        if folder.exists():
            folder.rmdir()
        os.replace(Path(temporary) / "whole", folder)  # written whole or not at all
    return folder


def parts_of(name: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline's index says of its parts: the class's name of each, and of the pipeline as "_class_name"."""
    if not Path(name).is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        raise FileNotFoundError(f"model: expected a folder or the id of a model, 'owner/name', got {str(name)!r}")
    if Path(name).is_dir() and not (Path(name) / DiffusionPipeline.config_name).is_file():
        raise FileNotFoundError(f"model: {name} is no diffusers folder: it has no {DiffusionPipeline.config_name}")
    try:
        index = DiffusionPipeline.load_config(str(name), **{key: options[key] for key in HUB if key in options})
    except OSError as error:
        raise not_found(name, error) from error
    listed = {part: value for part, value in index.items() if isinstance(value, list) and not part.startswith("_")}
    listed = {part: value for part, value in listed.items() if len(value) == 2}  # the library and the class
    if find_spec("transformers") is None and any(library == "transformers" for library, _ in listed.values()):
        raise ImportError(f"model: the text encoder of {name} needs transformers: pip install transformers")
    kind = index["_class_name"]
    return {"_class_name": kind} | {part: kind for part, (_, kind) in listed.items() if kind is not None}


def check_parts(pipeline: str, parts: Mapping[str, str]) -> None:
    """Raise ValueError, naming them, when parts (name: class's name) are missing, of another kind, or too many."""
    unet = parts.get("unet")
    needed = NEEDED.get(unet, NEEDED["UNet2DConditionModel"])
    has = ", ".join(part for part in parts if not part.startswith("_"))
    if missing := [part for part in needed if part not in parts]:
        raise ValueError(
            f"{pipeline}: expected the parts {', '.join(needed)}; missing {', '.join(missing)}; it has {has}"
        )
    if unet not in NEEDED:
        raise ValueError(f"{pipeline}: expected a unet that is a {' or '.join(NEEDED)}, got {unet}")
    if parts.get("vae", "AutoencoderKL") != "AutoencoderKL":
        raise ValueError(f"{pipeline}: expected a vae that is an AutoencoderKL, got {parts['vae']}")
    known = {*NEEDED["UNet2DConditionModel"], *LEFT_OUT}
    if unknown := [part for part in parts if part not in known and not part.startswith("_")]:
        raise ValueError(
            f"{pipeline}: expected only {', '.join(needed)}; minidiff has no place for {', '.join(unknown)}"
        )


def not_found(name: str | Path, error: Exception) -> FileNotFoundError:
    """What to download, and where to put it."""
    folder = str(name).rpartition("/")[2]
    if Path(name).is_dir():
        return FileNotFoundError(f"model: {name} is incomplete, its weights must be safetensors: {error}")
    why = str(error.__context__ or error).strip().partition("\n")[0]
    return FileNotFoundError(
        f"model: {name} is neither a folder here nor in the cache of Hugging Face, and could not be fetched. Where there is "
        f"a network: `hf download {name} --local-dir {folder}`; then give that folder instead of the name ({why})"
    )
