"""Pictures to try a model of the zoo on: held-out ones of its own world, or files of yours in the shape it needs.

And the way back: a set of pictures as a folder of files.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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


def read_conditions(
    shape: tuple[int, int, int],
    layout: Path | None = None,
    low_res: Path | None = None,
    blurred: Path | None = None,
    known: Path | None = None,
    mask: Path | None = None,
) -> dict[str, Any]:
    """Files as the pictures that `LatentDiffusion.given` takes, of the size that a model of pictures `shape` needs.

    Raises ValueError for a picture with a hole without its mask, and what `read_images`, `read_layout` and `read_mask` raise.
    """
    if (known is None) != (mask is None):
        raise ValueError("known, mask: a picture with a hole takes both")
    channels, size, _ = shape
    found = {}
    if layout is not None:
        found["layout"] = read_layout(layout, size)
    if low_res is not None:
        found["low_res"] = read_images([low_res], (channels, size // 4, size // 4))
    if blurred is not None:
        found["blurred"] = read_images([blurred], shape)
    if known is not None:
        found["known"] = read_images([known], shape), read_mask(mask, size)
    return found


def read_layout(path: str | Path, size: int) -> Tensor:
    """A semantic map from a file, (1, size, size) long: in the colours of `plot.layout`, as `write_layouts` writes it,
    or part numbers as grey levels.

    Raises FileNotFoundError where there is no file, ValueError naming it when it is another size, no image, or no map.
    """
    from minidiff.plot import MAP_COLOURS

    values = read_values(path, size)  # (H, W), or (H, W, 3)
    if values.ndim == 3:
        palette = torch.tensor([list(bytes.fromhex(colour[1:])) for colour in MAP_COLOURS])
        here = (values[..., None, :] == palette).all(-1)  # (H, W, parts)
        if not here.any(-1).all():
            raise ValueError(f"{path}: expected the colours of minidiff's maps only, or part numbers as grey levels")
        values = here.int().argmax(-1)
    return values[None].long()


def read_mask(path: str | Path, size: int) -> Tensor:
    """A mask from a file, (1, 1, size, size): white is known (1) and black to be painted (0).

    Raises FileNotFoundError where there is no file, ValueError naming it when it is another size, no image, or grey.
    """
    values = read_values(path, size, "L")
    if not ((values == 0) | (values == 255)).all():
        raise ValueError(f"{path}: expected only black (to be painted) and white (known), a mask has no greys")
    return (values / 255.0)[None, None]


def read_values(path: str | Path, size: int, mode: str | None = None) -> Tensor:
    """The bytes of a square image file of exactly this size: (H, W) of grey levels, or (H, W, 3)."""
    import numpy as np

    from minidiff.data.folder import decoded

    values = decoded(path, lambda image: np.array(image.convert(mode or ("L" if image.mode == "L" else "RGB"))))
    if values.shape[:2] != (size, size):
        raise ValueError(f"{path}: expected {size} x {size} pixels, got {values.shape[1]} x {values.shape[0]}")
    return torch.from_numpy(values)


def write_layouts(pictures: Pictures, folder: str | Path) -> Iterator[Path]:
    """Write the map of each critter as an indexed PNG in the colours of `plot.layout`, folder/000000.png and on."""
    import numpy as np
    from PIL import Image

    from minidiff.data.renderer import semantic_map
    from minidiff.plot import MAP_COLOURS

    for number in range(len(pictures)):
        parts = semantic_map(pictures.factors(slice(number, number + 1)), pictures.size)[0]
        image, file = Image.fromarray(parts.numpy().astype(np.uint8)), io.BytesIO()
        image.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in MAP_COLOURS))
        image.save(file, "PNG")
        yield write_whole(Path(folder) / f"{number:06}.png", file.getvalue())


def write_pictures(pictures: Pictures, folder: str | Path) -> Iterator[Path]:
    """Write each picture into a PNG of its own, folder/000000.png and on; yields the paths as they are written."""
    from PIL import Image

    from minidiff.plot import pixels

    for start in range(0, len(pictures), 50):
        for number, picture in enumerate(pixels(pictures[start : start + 50]), start):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG")
            yield write_whole(Path(folder) / f"{number:06}.png", file.getvalue())
