"""Any folder of images as a set of pictures: your own photographs, or AFHQ (Choi et al., StarGAN v2, CVPR 2020).

Whatever a file holds becomes an upright square in [-1, 1]. Shrinking is antialiased: without that, pictures and the
distances measured on them change (Parmar, Zhang & Zhu, "On aliased resizing", CVPR 2022).
"""

import struct
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from minidiff.data.pictures import Indices, as_indices

T = TypeVar("T")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SPLITS = ("train", "val", "test")
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class ImageFolder:
    """Every PNG, JPEG and WebP under `root`, in sorted order, read when asked for, as `Pictures` (channels, size, size).

    The folder a picture lies in is its class: with root/cat/1.jpg and root/dog/1.jpg, `classes` is ("cat", "dog") and
    `labels` (N,) are positions in it. Where root holds folders train, val or test, as AFHQ does, `split` picks one, by
    default train. classes: only these. channels: 3, or 1 for grey.

    Raises FileNotFoundError where there is no folder or no picture in it, ValueError for a setting that cannot be; a
    damaged file is refused by a ValueError that names it, when it is read.
    """

    def __init__(
        self,
        root: str | Path,
        size: int = 64,
        channels: int = 3,
        classes: Iterable[str] | None = None,
        split: str | None = None,
    ):
        check_square(size, channels)
        folder = _folder(Path(root), split)
        paths = sorted(path for path in folder.rglob("*") if _is_image(path))
        if not paths:
            raise FileNotFoundError(f"root: no picture in {folder} or its subfolders; looked for {', '.join(SUFFIXES)}")
        present = tuple(sorted({path.parent.name for path in paths}))
        self.classes = present if classes is None else chosen(classes, present)
        self.paths = [path for path in paths if path.parent.name in self.classes]
        self.labels = torch.tensor([self.classes.index(path.parent.name) for path in self.paths])  # (N,)
        self.size, self.channels = size, channels

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Indices) -> Tensor:
        """Pictures (B, channels, size, size) in [-1, 1]; a single int gives (channels, size, size)."""
        paths = [self.paths[index] for index in as_indices(indices, len(self)).tolist()]
        if isinstance(indices, int):
            return read_image(paths[0], self.size, self.channels)
        images = [read_image(path, self.size, self.channels) for path in paths]
        return torch.stack(images) if images else torch.zeros(0, *self.shape)


def check_square(size: int, channels: int) -> None:
    """Raises ValueError for a shape that no picture can have."""
    if size < 1:
        raise ValueError(f"size: expected a side of at least 1 pixel, got {size}")
    if channels not in (1, 3):
        raise ValueError(f"channels: expected 1 (grey) or 3 (colour), got {channels}")


def read_image(path: str | Path, size: int = 64, channels: int = 3) -> Tensor:
    """The middle square of an image file, (channels, size, size) in [-1, 1]: upright by its EXIF, transparency on white.

    Raises FileNotFoundError where there is no file, ValueError naming it when it is truncated or no image.
    """
    return decoded(path, partial(square, size=size, channels=channels))


def decoded(path: str | Path, convert: Callable[[Image.Image], T]) -> T:
    """What `convert` makes of an image file. Raises as `read_image` does."""
    try:
        with Image.open(path) as image:
            image.load()
            return convert(image)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is no image that can be read; expected one of {', '.join(SUFFIXES)}") from error
    except DAMAGE as error:
        raise ValueError(f"{path} is truncated or damaged: {error}") from error


def square(image: Image.Image, size: int = 64, channels: int = 3) -> Tensor:
    """The middle square of an opened image, (channels, size, size) in [-1, 1], as `read_image` gives it."""
    middle = _middle(_flatten(ImageOps.exif_transpose(image)).convert("RGB" if channels == 3 else "L"))
    pixels = np.array(middle.resize((size, size), Image.Resampling.BICUBIC))  # (H, W) or (H, W, 3)
    return torch.from_numpy(pixels.reshape(size, size, channels)).permute(2, 0, 1).float() / 127.5 - 1


def _flatten(image: Image.Image) -> Image.Image:
    """8 bits a channel and nothing transparent."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image)


def _middle(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _folder(root: Path, split: str | None) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"root: there is no folder {root}")
    root = root.resolve()
    there = [name for name in SPLITS if (root / name).is_dir()]
    if split is None:
        return root / "train" if "train" in there else root
    if split not in there:
        others = ", ".join(there) or "none of " + ", ".join(SPLITS)
        raise ValueError(f"split: no folder {split!r} in {root}; there is {others}")
    return root / split


def chosen(classes: Iterable[str], present: tuple[str, ...]) -> tuple[str, ...]:
    """One class or several, by name. Raises ValueError for a class that is not there, and for none."""
    names = (classes,) if isinstance(classes, str) else tuple(classes)
    unknown = [name for name in names if name not in present]
    if unknown or not names:
        raise ValueError(f"classes: no class {', '.join(unknown) or 'named'}; there are {', '.join(present) or 'none'}")
    return names
