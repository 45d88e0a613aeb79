"""Pictures to try a model of the zoo on: held-out ones of its own world, or files of yours in the shape it needs.

And the way back: a set of pictures as a folder of files.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from minidiff.data.pictures import Pictures
from minidiff.files import write_whole

HELD_OUT = 2  # the stream of Critters that nothing is trained or chosen on


def held_out(name: str) -> Pictures:
    """Pictures that the model `name` was not trained on and that every installation has: Critters, or the shipped shoes.

    For models of AFHQ its held-out photographs, if they are there.
    """
    from minidiff.training.recipes import recipe

    wanted = recipe(name).held_out.keywords
    if "animal" in wanted:
        return recipe(name).held_out()
    if "species" in wanted:
        from minidiff.data.critters import Critters

        return Critters(wanted["species"], seed=HELD_OUT, size=wanted.get("size", 64))
    from minidiff.data.fashion import FashionMNIST

    return FashionMNIST("subset", classes=wanted.get("classes"))


def truth(source: str, target: str, count: int) -> Tensor | None:
    """The first held-out animals of one model drawn as the other's species, (count, 3, H, W); None in the real world."""
    from minidiff.data.critters import Critters, render

    pictures, answers = held_out(source), held_out(target)
    if not isinstance(pictures, Critters) or not isinstance(answers, Critters):
        return None
    return render(pictures.factors(slice(count)).replace(species=answers.species), pictures.size)


def told(name: str, count: int) -> list[str]:
    """The captions of the first held-out pictures of a model. Raises ValueError for a world without captions."""
    from minidiff.data.captions import captions
    from minidiff.data.critters import Critters

    pictures = held_out(name)
    if not isinstance(pictures, Critters):
        raise ValueError(f"{name}: its pictures have no captions; say what is in them")
    return captions(pictures.factors(slice(count)))


def read_images(paths: Sequence[str | Path], shape: tuple[int, int, int]) -> Tensor:
    """Image files, and all images in folders, as (B, *shape) in [-1, 1]: a square of each from its middle.

    Raises FileNotFoundError for what is not there, ValueError naming a file that is damaged.
    """
    from minidiff.data.folder import ImageFolder, read_image

    channels, size, _ = shape
    parts = []
    for path in map(Path, paths):
        if path.is_dir():
            parts.append(ImageFolder(path, size=size, channels=channels)[:])
        else:
            parts.append(read_image(path, size, channels)[None])
    return torch.cat(parts)


def write_pictures(pictures: Pictures, folder: str | Path) -> Iterator[Path]:
    """Write each picture into a PNG of its own, folder/000000.png and on; yields the paths as they are written."""
    from PIL import Image

    from minidiff.plot import pixels

    for start in range(0, len(pictures), 50):
        for number, picture in enumerate(pixels(pictures[start : start + 50]), start):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG")
            yield write_whole(Path(folder) / f"{number:06}.png", file.getvalue())
