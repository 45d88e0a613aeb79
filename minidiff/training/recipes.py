"""One recipe per model: `recipe("critters-cat")` says exactly how that file of the zoo came to be.

Every denoiser has its own seed and its own pictures: no two ever saw the same individual, and none saw another species.
"""

import difflib
from functools import partial

from minidiff.conditioning import MAP_CHANNELS
from minidiff.data.renderer import PARTS
from minidiff.evaluation.probes import critters_config, fashion_config
from minidiff.nets.autoencoder import AutoencoderConfig
from minidiff.nets.clip import small_config
from minidiff.nets.ddgan import DDGANConfig
from minidiff.nets.diffae import DiffAEConfig
from minidiff.nets.flow import FlowConfig
from minidiff.nets.gan import GANConfig
from minidiff.nets.identity import IdentityConfig
from minidiff.nets.segmenter import SegmenterConfig
from minidiff.nets.unet import UNetConfig
from minidiff.nets.vae import VAEConfig
from minidiff.training.afhq import AFHQ
from minidiff.training.autoencoders import AutoencoderRecipe
from minidiff.training.clip import ClipRecipe
from minidiff.training.conditional import ConditionalRecipe
from minidiff.training.denoisers import DenoiserRecipe
from minidiff.training.diffae import DiffAERecipe
from minidiff.training.flows import FlowRecipe
from minidiff.training.gans import GAME, DDGANRecipe, GANRecipe
from minidiff.training.judges import IdentityRecipe, ProbeRecipe, SegmenterRecipe
from minidiff.training.recipe import Recipe
from minidiff.training.relatives import RELATIVES
from minidiff.training.vaes import VAERecipe


def critters(species: str, seed: int, length: int, size: int = 64):
    """Drawn faces with accessories in fashion, so that there are enough of them to learn from."""
    from minidiff.data.critters import COMMON_RATES, Critters

    return Critters(species, length=length, seed=seed, size=size, rates=COMMON_RATES)


def acquaintances(species: str, seed: int, length: int, individuals: int, size: int = 64):
    """The same world with so many animals, met again and again; no other seed has any of them."""
    from minidiff.data.critters import COMMON_RATES, Critters

    numbers = range(seed * 2**32, seed * 2**32 + individuals)
    return Critters(species, length=length, seed=seed, size=size, rates=COMMON_RATES, individuals=numbers)


def fashion(split: str, classes: tuple[str, ...] | None = None):
    """Real clothes: the training or test pictures of Fashion-MNIST, of some classes or all."""
    from minidiff.data.fashion import FashionMNIST

    return FashionMNIST(split, classes=classes)


HELD_OUT = 2  # the seed of Critters that nothing is trained or chosen on


TALL = {"in_channels": 8, "channels": (96, 192), "attention": (True, True)}  # the U-Net of all Critters


def neighbours(species: str, seed: int, length: int, size: int = 64):
    """The world as it is: its rare groups at their rates, and 2,000 animals, the same ones whatever the seed."""
    from minidiff.data.critters import RARE_RATES, Critters

    return Critters(species, length=length, seed=seed, size=size, rates=RARE_RATES, individuals=2_000)


def critters_denoiser(species: str, seed: int, steps: int) -> DenoiserRecipe:
    return DenoiserRecipe(
        name=f"critters-{species}",
        config=UNetConfig(**TALL),
        pictures=partial(critters, species=species, seed=seed, length=50_000),
        held_out=partial(critters, species=species, seed=HELD_OUT, length=2_000),
        autoencoder="critters-autoencoder",
        seed=seed,
        steps=steps,
        batch=64,
        lr=1e-3,
        decay=0.9995,
    )


def critters_conditional(
    name: str, seed: int, steps: int, routes: tuple[tuple[str, float], ...], config: UNetConfig, **others
) -> ConditionalRecipe:
    """All species in one model, told what to draw by the given routes."""
    return ConditionalRecipe(
        name=f"critters-{name}",
        config=config,
        pictures=partial(critters, species="all", seed=seed, length=40_000),
        held_out=partial(critters, species="all", seed=HELD_OUT, length=2_000),
        autoencoder="critters-autoencoder",
        text="critters-clip",
        routes=routes,
        seed=seed,
        steps=steps,
        batch=64,
        decay=0.9995,
        lr=1e-3,
        **others,
    )


def family(seed: int) -> dict:
    """What the families of generators that are compared have in common: one world, whose rare groups and animals are known,
    and each a seed and pictures of its own."""
    return {
        "pictures": partial(neighbours, species="all", seed=seed, length=50_000),
        "held_out": partial(neighbours, species="all", seed=HELD_OUT, length=2_000),
        "seed": seed,
        "bits": 8,
    }


def fashion_denoiser(name: str, label: str, seed: int) -> DenoiserRecipe:
    return DenoiserRecipe(
        name=f"fashion-{name}",
        config=UNetConfig(in_channels=4, channels=(64, 160), attention=(True, True)),
        pictures=partial(fashion, split="train", classes=(label,)),
        held_out=partial(fashion, split="test", classes=(label,)),
        autoencoder="fashion-autoencoder",
        seed=seed,
        steps=3_000,
        batch=64,
        lr=1e-3,
        decay=0.9995,
    )


def study_pictures(seed: int) -> dict[str, partial]:
    """What the models of the study of compression see: all species, at half the side, so that each is cheap."""
    return {
        "pictures": partial(critters, species="all", seed=seed, length=20_000, size=32),
        "held_out": partial(critters, species="all", seed=HELD_OUT, length=1_000, size=32),
    }


def study_autoencoder(f: int, channels: int, seed: int, codes: int = 0, suffix: str = "", **terms) -> AutoencoderRecipe:
    """KL-regularised, or quantised to `codes` vectors. The same widths, pictures and steps whatever f and channels are;
    `terms` are weights of the loss that the others leave at 0."""
    bottleneck = "vq" if codes else "kl"
    return AutoencoderRecipe(
        name=f"study-{bottleneck}-f{f}-c{channels}{suffix}",
        config=AutoencoderConfig(
            latent_channels=channels,
            patch=f // 2,
            encoder=(32, 64),
            decoder=(16, 32, 64),
            depth=1,
            bottleneck=bottleneck,
            codes=codes,
        ),
        **study_pictures(seed),
        seed=seed,
        steps=1_500,
        batch=32,
        lr=2e-3,
        coarse_until=0.0,  # the full resolution alone counts
        **terms,
    )


def study_denoiser(name: str, autoencoder: str | None, seed: int, steps: int) -> DenoiserRecipe:
    """One network for pixels and for latents of as many channels; `steps` are such that both train equally long."""
    return DenoiserRecipe(
        name=name,
        config=UNetConfig(in_channels=3, channels=(32, 64, 64), attention=(False, True, True), time=128),
        **study_pictures(seed),
        autoencoder=autoencoder,
        seed=seed,
        steps=steps,
        batch=32,
        lr=1e-3,
    )


ALL = (
    AutoencoderRecipe(
        name="critters-autoencoder",
        config=AutoencoderConfig(),
        pictures=partial(critters, species="all", seed=100, length=60_000),
        held_out=partial(critters, species="all", seed=HELD_OUT, length=1_000),
        seed=100,
        steps=17_000,
        batch=32,
        lr=2e-3,
        restarts=(9_500, 12_000),
        restart_lr=6e-4,
        coarse_until=0.48,
    ),
    critters_denoiser("cat", 101, 7_000),
    critters_denoiser("dog", 102, 8_000),
    critters_denoiser("wild", 103, 4_500),
    ProbeRecipe(
        name="critters-probe",
        config=critters_config(),
        pictures=partial(critters, species="all", seed=104, length=60_000),
        held_out=partial(critters, species="all", seed=HELD_OUT, length=2_000),
        seed=104,
        steps=2_500,
        batch=64,
        lr=1e-3,
    ),
    ClipRecipe(
        name="critters-clip",
        config=small_config(),
        pictures=partial(critters, species="all", seed=105, length=50_000),
        held_out=partial(critters, species="all", seed=HELD_OUT, length=2_000),
        seed=105,
        steps=2_000,
        batch=128,
        lr=1e-3,
    ),
    critters_conditional(
        "text", 106, 12_000, (("text", 0.8), ("label", 0.1), ("", 0.1)), UNetConfig(**TALL, context=128, classes=3)
    ),
    critters_conditional(
        "maps",
        107,
        6_000,
        (
            ("layout", 0.2),
            ("layout+text", 0.1),
            ("low_res", 0.15),
            ("blurred", 0.15),
            ("known", 0.15),
            ("known+text", 0.1),
            ("text", 0.05),
            ("", 0.1),
        ),
        UNetConfig(**TALL, context=128, classes=3, maps=MAP_CHANNELS, map_features=64),
        start="critters-text",
    ),
    SegmenterRecipe(
        name="critters-segmenter",
        config=SegmenterConfig(parts=len(PARTS)),
        pictures=partial(critters, species="all", seed=108, length=30_000),
        held_out=partial(critters, species="all", seed=HELD_OUT, length=1_000),
        seed=108,
        steps=2_400,
        batch=32,
        lr=1e-3,
    ),
    IdentityRecipe(
        name="critters-identity",
        config=IdentityConfig(),
        pictures=partial(acquaintances, species="all", seed=109, length=60_000, individuals=3_000),
        held_out=partial(acquaintances, species="all", seed=HELD_OUT, length=2_000, individuals=200),
        seed=109,
        steps=4_500,
        batch=64,
        lr=1e-3,
    ),
    DenoiserRecipe(
        name="critters-latents",
        config=UNetConfig(**TALL | {"channels": (64, 128)}),
        **family(145),
        autoencoder="critters-autoencoder",
        steps=9_000,
        batch=64,
        lr=1e-3,
        decay=0.9995,
    ),
    DenoiserRecipe(
        name="critters-pixels",
        config=UNetConfig(in_channels=3, patch=4, channels=(64, 96, 128), attention=(False, True, True)),
        **family(146),
        autoencoder=None,
        steps=6_500,
        batch=32,
        lr=1e-3,
        decay=0.9995,
    ),
    VAERecipe(name="critters-vae", config=VAEConfig(), **family(140), steps=5_000, batch=32, lr=1e-3),
    FlowRecipe(
        name="critters-flow",
        config=FlowConfig(),
        **family(141),
        autoencoder="critters-autoencoder",
        steps=3_000,
        batch=64,
        lr=1e-3,
    ),
    GANRecipe(
        name="critters-gan",
        config=GANConfig(),
        **family(142),
        **GAME,
        autoencoder="critters-autoencoder",
        critic=(96, 160),
        gamma=30.0,
        steps=6_000,
        batch=64,
    ),
    DDGANRecipe(
        name="critters-ddgan",
        config=DDGANConfig(schedule="cosine"),
        **family(143),
        **GAME,
        autoencoder="critters-autoencoder",
        critic=(64, 128),
        gamma=0.3,
        anchor=0.2,
        haste=20.0,
        restarts=(2_500,),
        restart_lr=5e-5,
        steps=4_000,
        batch=32,
    ),
    DiffAERecipe(
        name="critters-diffae",
        config=DiffAEConfig(),
        **family(144),
        autoencoder="critters-autoencoder",
        steps=2_000,
        batch=64,
        lr=1e-3,
        decay=0.9995,
    ),
    AutoencoderRecipe(
        name="fashion-autoencoder",
        config=AutoencoderConfig(
            image_channels=1, latent_channels=4, patch=2, encoder=(48, 128), decoder=(16, 64, 160)
        ),
        pictures=partial(fashion, split="train"),
        held_out=partial(fashion, split="test"),
        seed=200,
        steps=4_000,
        batch=32,
        lr=2e-3,
        coarse_until=1.0,
    ),
    fashion_denoiser("sneaker", "sneaker", 201),
    fashion_denoiser("boot", "ankle-boot", 202),
    ProbeRecipe(
        name="fashion-probe",
        config=fashion_config(),
        pictures=partial(fashion, split="train"),
        held_out=partial(fashion, split="test"),
        seed=204,
        steps=3_000,
        batch=64,
        lr=1e-3,
    ),
    study_autoencoder(2, 2, seed=300),
    study_autoencoder(4, 3, seed=301),
    study_autoencoder(8, 4, seed=302),
    study_autoencoder(8, 8, seed=303),
    study_autoencoder(8, 16, seed=304),
    study_autoencoder(16, 8, seed=305),
    study_autoencoder(16, 16, seed=306),
    study_autoencoder(2, 2, seed=310, codes=256),
    study_autoencoder(4, 3, seed=311, codes=512),
    study_autoencoder(8, 4, seed=312, codes=1024),
    study_autoencoder(16, 8, seed=313, codes=1024),
    ProbeRecipe(  # sees for the perceptual term, so that the judge of the study is another network
        name="study-probe",
        config=critters_config(size=32),
        **study_pictures(330),
        seed=330,
        steps=1_500,
        batch=64,
        lr=1e-3,
    ),
    study_autoencoder(
        8, 4, seed=307, suffix="-gan", perceptual_weight=1.0, perceptual="study-probe", adversary_weight=0.5
    ),
    study_denoiser("study-pixels", None, seed=320, steps=1_700),
    study_denoiser("study-latents", "study-kl-f4-c3", seed=321, steps=17_000),
    *AFHQ,
    *RELATIVES,
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in ALL}


def recipe(name: str) -> Recipe:
    """The recipe of a model of the zoo. Raises ValueError for an unknown name, with the nearest known one."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"recipe: there is none for {name!r}; {hint}known are {', '.join(RECIPES)}")
    return RECIPES[name]
