"""AFHQ, 256 x 256 photographs of cats, dogs and wild animals, in the latents of a Stable Diffusion autoencoder.

The task of Wu & De la Torre (ICCV 2023, section 4.1) on the pictures of Choi et al. (StarGAN v2, CVPR 2020), three models
that never see each other's animals, for machines with a GPU. No weights of these recipes ship; book/afhq.md has the
commands, and what they cost.
"""

import os
from functools import partial
from pathlib import Path

from minidiff.data.pictures import Pictures
from minidiff.nets.unet import UNetConfig
from minidiff.training.denoisers import DenoiserRecipe

AUTOENCODER = "diffusers:stabilityai/sd-vae-ft-mse"  # or "diffusers:FOLDER", an AutoencoderKL of 8 pixels a latent
SIZE = 256
ANIMALS = {"cat": 401, "dog": 402, "wild": 403}  # and the seed of each


def afhq(animal: str, split: str) -> Pictures:
    """Photographs of one kind: split "train", each also in the mirror, or "held_out", which AFHQ calls val or test.

    They lie in $MINIDIFF_DATA/afhq, or data/afhq. Raises FileNotFoundError when they do not, ValueError for another animal.
    """
    from minidiff.data.folder import ImageFolder
    from minidiff.data.mirrored import Mirrored

    root = Path(os.environ.get("MINIDIFF_DATA", "data")) / "afhq"
    if not root.is_dir():
        raise FileNotFoundError(
            f"AFHQ: there is no folder {root}; set MINIDIFF_DATA to the one above it (book/afhq.md)"
        )
    if split == "train":
        return Mirrored(ImageFolder(root, SIZE, classes=animal, split="train"))
    return ImageFolder(root, SIZE, classes=animal, split="val" if (root / "val").is_dir() else "test")


AFHQ = tuple(
    DenoiserRecipe(
        name=f"afhq-{animal}",
        config=UNetConfig(
            in_channels=4, channels=(192, 384, 576, 768), attention=(False, True, True, True), time=768
        ),  # 84 M parameters on latents of 32 x 32 x 4
        pictures=partial(afhq, animal=animal, split="train"),
        held_out=partial(afhq, animal=animal, split="held_out"),
        autoencoder=AUTOENCODER,
        seed=seed,
        steps=100_000,
        batch=64,
        lr=2e-4,
        warmup=1_000,
        decay=0.9999,
        log_every=100,
        checkpoint_every=2_000,
        licence="CC BY-NC 4.0",  # the photographs'
    )
    for animal, seed in ANIMALS.items()
)
