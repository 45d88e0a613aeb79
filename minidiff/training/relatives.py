"""Recipes for domains that are more or less related: one small denoiser each, alike but for its pictures and its seed.

`minidiff reproduce codes` pairs the first with each of the others. They are a third the size of the zoo's other denoisers of
Critters, because five of them only have to be compared among themselves.
"""

from functools import partial

from minidiff.nets.unet import UNetConfig
from minidiff.training.denoisers import DenoiserRecipe

HELD_OUT = 2


def relatives(amount: float, turned: bool, seed: int, length: int):
    """Drawn faces between cats and dogs, perhaps upside down, with accessories in fashion."""
    from minidiff.data.relatives import Relatives

    return Relatives("cat", "dog", amount, turned, seed=seed, length=length)


def relative(name: str, amount: float, seed: int, turned: bool = False) -> DenoiserRecipe:
    """A denoiser in the latents of all Critters, of cats (amount 0), dogs (1) or what lies between."""
    return DenoiserRecipe(
        name=f"relatives-{name}",
        config=UNetConfig(in_channels=8, channels=(64, 128), attention=(True, True)),
        pictures=partial(relatives, amount=amount, turned=turned, seed=seed, length=20_000),
        held_out=partial(relatives, amount=amount, turned=turned, seed=HELD_OUT, length=1_000),
        autoencoder="critters-autoencoder",
        seed=seed,
        steps=3_000,
        batch=64,
        lr=1e-3,
    )


RELATIVES = (
    relative("cat", 0.0, 400),
    relative("sibling", 0.0, 401),
    relative("half", 0.5, 402),
    relative("dog", 1.0, 403),
    relative("stranger", 1.0, 404, turned=True),
)
