"""The autoencoder of Stable Diffusion, or any other AutoencoderKL of diffusers, where one of ours is expected.

Between a picture and the mean and log variance of its latents, and back, work diffusers' networks; all else (samples of the
posterior, shift and scale, the checks) is `minidiff.nets.autoencoder`'s. Rombach et al., CVPR 2022, section 3.1.
"""

import hashlib
from pathlib import Path

import torch
from torch import nn

from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig

FILES = ("config.json", "diffusion_pytorch_model.safetensors")


class KLAutoencoder(Autoencoder):
    """images (B, C, H, W) in [-1, 1] <-> latents (B, c, H/f, W/f), scaled as the autoencoder's config says.

    Of `config` the channels and the factor are true, the widths are not its own.
    """

    def __init__(self, vae: nn.Module):
        nn.Module.__init__(self)
        theirs, factor = vae.config, 2 ** (len(vae.config.block_out_channels) - 1)
        self.config = AutoencoderConfig(theirs.in_channels, theirs.latent_channels, patch=factor // 2)
        self.encoder = nn.Sequential(vae.encoder, vae.quant_conv or nn.Identity())  # (B, 2 c, H/f, W/f)
        self.decoder = nn.Sequential(vae.post_quant_conv or nn.Identity(), vae.decoder)
        self.quantiser = None
        ones = torch.ones(theirs.latent_channels)
        self.register_buffer("shift", ones * (theirs.get("shift_factor") or 0.0))
        self.register_buffer("scale", ones / theirs.scaling_factor)


def open_autoencoder(name: str, device: torch.device | str = "cpu") -> KLAutoencoder:
    """A folder with an AutoencoderKL, or its name on the hub ("stabilityai/sd-vae-ft-mse"); eval, frozen, safetensors only.

    Raises FileNotFoundError for a folder that is none, and for a name that is neither here nor to be fetched.
    """
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(folder_of(name), use_safetensors=True)
    return KLAutoencoder(vae).eval().requires_grad_(False).to(device)


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
