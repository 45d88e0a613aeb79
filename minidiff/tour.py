"""The whole package in a minute: sample, encode and decode again, turn cats into dogs and sneakers into boots.

`minidiff tour` writes one PNG for each stop and a page, index.html, that carries its pictures and needs nothing else. Every
figure on the page is measured in that very run.
"""

import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from minidiff import zoo
from minidiff.cycle import translate
from minidiff.data.critters import COMMON_RATES, NAMES, Critters, render
from minidiff.data.fashion import CLASSES, FashionMNIST
from minidiff.evaluation.metrics import psnr
from minidiff.evaluation.probes import read_all
from minidiff.files import write_whole
from minidiff.generators import LatentDiffusion
from minidiff.plot import grid
from minidiff.tourpage import Stop, page

COUNT = 8  # pictures in a row
HELD_OUT = 2  # the stream of Critters that nothing is trained or chosen on
STEPS = 30
# The operating points that `minidiff reproduce translation` and `fashion` chose; a test compares.
ANIMALS = {"strength": 0.3, "eta": 1.0, "refine": 0.0}
SHOES = {"strength": 0.6, "eta": 1.0, "refine": 0.0}
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
Load = Callable


def run(out: str | Path = "tour", steps: int = STEPS, load: Load = zoo.load) -> Path:
    """Make the tour and write it into the folder `out`; returns the path of index.html. Offline, under a minute.

    Raises ValueError when `out` is a file; nothing is written before all pictures are there.
    """
    from tqdm.auto import tqdm

    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: expected a folder to write into, but {out} is a file")
    start, stops, load = time.perf_counter(), [], functools.cache(load)
    with tqdm(total=len(STOPS), desc="tour", unit="stop") as bar, torch.inference_mode():
        for make in STOPS:
            stops.append(make(steps, load))
            bar.update()
    seconds = time.perf_counter() - start
    for number, stop in enumerate(stops, 1):
        stop.picture.save(out / f"{number}-{stop.name}.png")
        print(f"{number}. {stop.title}: {', '.join(f'{name} {value}' for name, value in stop.figures.items())}")
    path = write_whole(out / "index.html", page(stops, seconds))
    print(f"{seconds:.0f} s; open {path}")
    return path


def samples(steps: int, load: Load) -> Stop:
    models = {name: load(f"critters-{name}").replace(steps=steps, eta=1.0) for name in NAMES}
    rows = {name: model.sample(COUNT).clamp(-1, 1) for name, model in models.items()}
    species = read_all(load("critters-probe"), torch.cat(list(rows.values())))["species"]
    right = (species == torch.arange(len(NAMES)).repeat_interleave(COUNT)).sum().item()
    return Stop(
        "samples",
        "Pictures out of noise",
        f"Nobody drew these animals. Each began as {math.prod(models['cat'].latent_shape)} random numbers. A small network "
        f"took the noise out of them in {steps} steps, and a decoder turned what was left into a picture. The three models "
        "were trained apart, each on one species, and yet look down a column: from the same numbers they make relatives.",
        grid(
            list(rows.values()),
            row_labels=list(rows),
            alt=f"Three rows of {COUNT} invented animal faces each: {', '.join(NAMES)}.",
            display=False,
        ),
        {"read as the right species": f"{right} of {len(species)}"},
    )


def reconstruction(steps: int, load: Load) -> Stop:
    model = load("critters-cat").replace(steps=steps, strength=ANIMALS["strength"], eta=ANIMALS["eta"])
    cats = _cats(model)[:]
    decoded = model.to_images(model.to_latents(cats))
    again = model.decode(model.encode(cats))
    error, nearness = (again - decoded).abs().max().item(), psnr(again, cats).mean().item()
    return Stop(
        "reconstruction",
        "There and back",
        "The same map can be run backwards. DPM-Encoder finds the random numbers that make the model draw a given picture; "
        "drawing with them gives the picture back. The encoder of noise loses nothing but rounding. What softness you see "
        f"comes from the autoencoder, which keeps {math.prod(model.latent_shape):,} numbers of each picture's "
        f"{math.prod(model.image_shape):,}.",
        grid(
            [cats, decoded, again],
            row_labels=["picture", "autoencoder only", "through the code"],
            alt=f"{COUNT} cats, their autoencoded copies and their copies through the code: the last two rows are equal.",
            display=False,
        ),
        {"error of the code": f"{error:.1e}", "PSNR to the picture": f"{nearness:.1f} dB"},
    )


def translation(steps: int, load: Load) -> Stop:
    cat, dog = load("critters-cat"), load("critters-dog")
    critters = _cats(cat)
    cats, truth = critters[:], render(critters.factors(slice(None)).replace(species="dog"), critters.size)
    ours = translate(cat, dog, cats, **ANIMALS, steps=steps).clamp(-1, 1)
    rival = translate(cat, dog, cats, "sdedit", strength=ANIMALS["strength"], eta=1.0, steps=steps).clamp(-1, 1)
    dogs = (read_all(load("critters-probe"), ours)["species"] == NAMES.index("dog")).sum().item()
    near, far = psnr(ours, truth).mean().item(), psnr(rival, truth).mean().item()
    return Stop(
        "translation",
        "The same code, another model",
        "This is CycleDiffusion. The cats' model encodes, the dogs' model decodes, and neither ever saw the other's pictures. "
        "Colours, place, gaze and hats come along, because both models learned to spend the same random numbers on the same "
        "things. Critters are drawn from known factors, so the right answer exists: the same factors drawn as a dog. SDEdit "
        "starts from the same noisy cat but draws fresh noise, and forgets who it was.",
        grid(
            [cats, ours, truth, rival],
            row_labels=["cat", "CycleDiffusion", "true dog", "SDEdit"],
            alt=f"{COUNT} cats; below each its translation by CycleDiffusion, the true dog, and SDEdit's translation.",
            display=False,
        ),
        {
            "read as dogs": f"{dogs} of {COUNT}",
            "CycleDiffusion to the true dog": f"{near:.1f} dB",
            "SDEdit to the true dog": f"{far:.1f} dB",
        },
    )


def strengths(steps: int, load: Load) -> Stop:
    cat, dog = load("critters-cat"), load("critters-dog")
    cats = _cats(cat)[:4]
    settings = {"steps": steps, "eta": ANIMALS["eta"]}
    columns = [translate(cat, dog, cats, strength=strength, **settings).clamp(-1, 1) for strength in STRENGTHS]
    nearness = [psnr(column, cats).mean().item() for column in columns]
    rows = [torch.stack([cats[i], *(column[i] for column in columns)]) for i in range(len(cats))]
    return Stop(
        "strength",
        "How far up the noise",
        "Strength says how much noise the trip goes through. With little, the cat's own outline shows through; with all of it, "
        "only what the two models agree on comes along. The useful settings lie between.",
        grid(
            rows,
            column_labels=["cat", *(f"strength {strength:g}" for strength in STRENGTHS)],
            alt=f"Four cats, each translated at strengths {', '.join(map(str, STRENGTHS))}: ever more of a dog.",
            display=False,
        ),
        {
            "likeness to the cat": f"{nearness[0]:.1f} dB at {STRENGTHS[0]:g}, {nearness[-1]:.1f} dB at {STRENGTHS[-1]:g}"
        },
    )


def shoes(steps: int, load: Load) -> Stop:
    source, target = load("fashion-sneaker"), load("fashion-boot")
    sneakers = FashionMNIST("subset", classes=("sneaker",), size=source.image_shape[-1])[:COUNT]
    boots = translate(source, target, sneakers, **SHOES, steps=steps).clamp(-1, 1)
    read = (read_all(load("fashion-probe"), boots)["label"] == CLASSES.index("ankle-boot")).sum().item()
    return Stop(
        "shoes",
        "The same for real pictures",
        "These are photographs from Fashion-MNIST, and the two models are trained on sneakers and on ankle boots alone. There "
        "is no true answer here: look for the sole, the laces and the shade of each sneaker in its boot.",
        grid(
            [sneakers, boots],
            row_labels=["sneaker", "CycleDiffusion"],
            alt=f"{COUNT} photographs of sneakers, and below each the ankle boot it became.",
            display=False,
        ),
        {"read as ankle boots": f"{read} of {COUNT}", "PSNR to the sneaker": f"{psnr(boots, sneakers).mean():.1f} dB"},
    )


STOPS: tuple[Callable[[int, Load], Stop], ...] = (samples, reconstruction, translation, strengths, shoes)


def _cats(model: LatentDiffusion) -> Critters:
    """Held-out cats, some of them with glasses or a hat."""
    return Critters("cat", length=COUNT, seed=HELD_OUT, size=model.image_shape[-1], rates=COMMON_RATES)
