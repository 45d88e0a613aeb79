"""An AutoencoderKL of diffusers, Stable Diffusion's for one, by the name of its folder or of the hub's: what "diffusers:"
before a name means to the zoo. Rombach et al., CVPR 2022, section 3.1.
"""

import hashlib
from pathlib import Path

import torch

from minidiff.nets.autoencoder import Autoencoder

FILES = ("config.json", "diffusion_pytorch_model.safetensors")


def open_autoencoder(name: str, device: torch.device | str = "cpu") -> Autoencoder:
    """A folder with an AutoencoderKL, or its name on the hub ("stabilityai/sd-vae-ft-mse"); eval, frozen, safetensors only.

    Raises FileNotFoundError for a folder that is none, and for a name that is neither here nor to be fetched.
    """
    from diffusers import AutoencoderKL

    from minidiff.bridges.networks import DiffusersAutoencoder

    vae = AutoencoderKL.from_pretrained(folder_of(name), use_safetensors=True)
    return DiffusersAutoencoder(vae).eval().requires_grad_(False).to(device)


def describe(name: str) -> dict[str, str]:
    """What the zoo's manifest would say of it: its kind, and the hash of its weights. Raises FileNotFoundError."""
    content = (folder_of(name) / FILES[1]).read_bytes()
    return {"kind": "autoencoder", "sha256": hashlib.sha256(content).hexdigest()}


def folder_of(name: str) -> Path:
    """The folder itself, or the one where the hub's copy lies on this machine; fetched the first time."""
    folder = Path(name)
    if folder.is_dir():
        if missing := [file for file in FILES if not (folder / file).is_file()]:
            raise FileNotFoundError(f"autoencoder: expected the folder of an AutoencoderKL, {name} has no {missing[0]}")
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"autoencoder: {name} is no folder here and could not be fetched; on a machine with a network: "
            f"`hf download {name} {' '.join(FILES)} --local-dir FOLDER` ({error})"
        ) from error
