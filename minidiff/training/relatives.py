"""Recipes of models that are trained apart to be compared: what do they make of the same codes?

`minidiff reproduce codes` pairs them: small denoisers of domains that are more or less related, two species in each of the
other families, and two runs at every stage. Only that study wants them, so they stay in the folders of their runs.
"""

from functools import partial

from minidiff.nets.flow import FlowConfig
from minidiff.nets.gan import GANConfig
from minidiff.nets.unet import UNetConfig
from minidiff.nets.vae import VAEConfig
from minidiff.training.denoisers import DenoiserRecipe
from minidiff.training.flows import FlowRecipe
from minidiff.training.gans import GAME, GANRecipe
from minidiff.training.recipe import Recipe
from minidiff.training.vaes import VAERecipe

HELD_OUT = 2
STAGES = (50, 100, 200, 500, 1_500)


def relatives(amount: float, turned: bool, seed: int, length: int):
    """Drawn faces between cats and dogs, perhaps upside down, with accessories in fashion."""
    from minidiff.data.relatives import Relatives

    return Relatives("cat", "dog", amount, turned, seed=seed, length=length)


def drawn(amount: float, seed: int, turned: bool = False) -> dict:
    """20,000 pictures of cats (amount 0), dogs (1) or what lies between, and others that are held out."""
    common = {"amount": amount, "turned": turned}
    return {
        "pictures": partial(relatives, **common, seed=seed, length=20_000),
        "held_out": partial(relatives, **common, seed=HELD_OUT, length=1_000),
        "seed": seed,
    }


def relative(name: str, amount: float, seed: int, turned: bool = False, **others) -> DenoiserRecipe:
    """A denoiser in the latents of all Critters."""
    return DenoiserRecipe(
        name=f"relatives-{name}",
        config=UNetConfig(in_channels=8, channels=(64, 128), attention=(True, True)),
        **drawn(amount, seed, turned),
        autoencoder="critters-autoencoder",
        steps=1_500,
        batch=64,
        lr=1e-3,
        **others,
    )


def pair(species: str, amount: float, seed: int) -> tuple[Recipe, ...]:
    """A species in each of the families that this study adds, by their recipes in the zoo, for fewer steps."""
    length = {"steps": 1_000, "batch": 32}
    return (
        VAERecipe(name=f"relatives-vae-{species}", config=VAEConfig(), **drawn(amount, seed), **length, lr=1e-3),
        FlowRecipe(
            name=f"relatives-flow-{species}",
            config=FlowConfig(),
            autoencoder="critters-autoencoder",
            **drawn(amount, seed + 10),
            **length,
            lr=1e-3,
        ),
        GANRecipe(
            name=f"relatives-gan-{species}",
            config=GANConfig(),
            **drawn(amount, seed + 20),
            **GAME,
            autoencoder="critters-autoencoder",
            critic=(96, 160),
            gamma=30.0,
            **length,
        ),
    )


RELATIVES: tuple[Recipe, ...] = (
    relative("cat", 0.0, 500, stages=STAGES),
    relative("sibling", 0.0, 501),
    relative("half", 0.5, 502),
    relative("dog", 1.0, 503, stages=STAGES),
    relative("stranger", 1.0, 504, turned=True),
    *pair("cat", 0.0, 510),
    *pair("dog", 1.0, 511),
)
