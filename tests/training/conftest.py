"""Recipes small enough to train in a second, of the same kinds as those of the zoo."""

from functools import partial

import pytest
from accelerate.state import AcceleratorState

from minidiff.data.critters import Critters
from minidiff.data.tokens import Tokenizer
from minidiff.evaluation.probes import critters_config
from minidiff.nets.autoencoder import AutoencoderConfig
from minidiff.nets.clip import ClipConfig
from minidiff.nets.identity import IdentityConfig
from minidiff.nets.unet import UNetConfig
from minidiff.training.autoencoders import AutoencoderRecipe
from minidiff.training.clip import ClipRecipe
from minidiff.training.denoisers import DenoiserRecipe
from minidiff.training.judges import IdentityRecipe, ProbeRecipe

COMMON = {
    "pictures": partial(Critters, species="all", length=48, size=16, seed=7),
    "held_out": partial(Critters, species="all", length=20, size=16, seed=8),
    "steps": 10,
    "batch": 8,
    "lr": 1e-3,
    "warmup": 3,
    "log_every": 2,
    "checkpoint_every": 4,
}


@pytest.fixture
def common():
    """What all tiny recipes have in common."""
    return COMMON


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate remembers the device of a process's first run; here each test chooses its own."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def autoencoder_recipe():
    config = AutoencoderConfig(latent_channels=4, patch=2, encoder=(8, 16), decoder=(8, 8, 16), depth=1)
    return AutoencoderRecipe(name="tiny-autoencoder", config=config, seed=1, **COMMON)


@pytest.fixture
def denoiser_recipe():
    config = UNetConfig(in_channels=4, channels=(32,), attention=(True,), time=16)
    return DenoiserRecipe(name="tiny-denoiser", config=config, seed=2, autoencoder="tiny-autoencoder", **COMMON)


@pytest.fixture
def probe_recipe():
    return ProbeRecipe(name="tiny-probe", config=critters_config(size=16), seed=3, **COMMON)


@pytest.fixture
def clip_recipe():
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
    text = {"context_length": 20, "vocab_size": Tokenizer.vocab_size, "width": 32, "heads": 2, "layers": 1}
    return ClipRecipe(name="tiny-clip", config=ClipConfig(16, vision, text), seed=4, group=4, **COMMON)


@pytest.fixture
def identity_recipe():
    config = IdentityConfig(size=16, widths=(16, 32), features=8)
    few = {key: partial(COMMON[key], individuals=range(40, 48, 2)) for key in ("pictures", "held_out")}
    return IdentityRecipe(name="tiny-identity", config=config, seed=5, **COMMON | few)
