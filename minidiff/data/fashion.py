"""Fashion-MNIST: 70,000 real photographs of clothes and shoes, small and grey, with ten classes.

Xiao, Rasul & Vollgraf, 2017 (arXiv 1708.07747), MIT licence. 256 of its test pictures ship with the package.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minidiff.data import fashion_files
from minidiff.data.pictures import Indices, as_indices

CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
SUBSET = Path(__file__).with_name("fashion_subset.png")
SUBSET_CLASSES = ("sneaker", "ankle-boot", "pullover", "coat")
PER_CLASS = 64


class FashionMNIST:
    """The pictures of some classes, in the order of the file, as `Pictures` of shape (1, size, size).

    split: "train" (60,000), "test" (10,000), or "subset": the first 64 test pictures of sneaker, ankle-boot, pullover and
    coat, which ship with minidiff and need no files. classes: names from CLASSES (all by default). root: the folder of the
    .gz files (by default $MINIDIFF_DATA, Debian's dataset-fashion-mnist and the cache are searched, then they are
    downloaded). size: the 28x28 pictures stand in the middle of a black square of this size. `labels` (N,) are positions
    in CLASSES.

    Raises ValueError for an unknown split, class or size and for damaged files, FileNotFoundError where there are none.
    """

    def __init__(
        self,
        split: str = "train",
        classes: Iterable[str] | None = None,
        root: str | Path | None = None,
        size: int = 32,
    ):
        if split not in ("train", "test", "subset"):
            raise ValueError(f'split: expected "train", "test" or "subset", got {split!r}')
        if size < 28 or size % 2:
            raise ValueError(f"size: expected an even number of at least 28 (the pictures are 28x28), got {size}")
        available = SUBSET_CLASSES if split == "subset" else CLASSES
        self.split, self.size, self.classes = split, size, _class_names(classes, available)

        images, labels = read_subset() if split == "subset" else _read(split, root)
        chosen = np.isin(labels, [CLASSES.index(name) for name in self.classes])
        self._images = torch.from_numpy(images[chosen])  # (N, 28, 28) uint8
        self.labels = torch.from_numpy(labels[chosen]).long()  # (N,)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.size, self.size

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, indices: Indices) -> Tensor:
        """Pictures (B, 1, size, size) in [-1, 1], background -1; a single int gives (1, size, size)."""
        grey = self._images[as_indices(indices, len(self))][:, None]  # (B, 1, 28, 28)
        images = F.pad(grey, [(self.size - 28) // 2] * 4).float() / 127.5 - 1
        return images[0] if isinstance(indices, int) else images


def read_subset() -> tuple[np.ndarray, np.ndarray]:
    """Pictures (256, 28, 28) and labels (256,) of the shipped sprite: 8 rows of 32 pictures, two rows a class."""
    from PIL import Image

    with Image.open(SUBSET) as sprite:
        tiles = np.asarray(sprite).reshape(8, 28, 32, 28).swapaxes(1, 2).reshape(-1, 28, 28)
    return tiles, np.repeat([CLASSES.index(name) for name in SUBSET_CLASSES], PER_CLASS).astype(np.uint8)


def write_subset(path: Path, root: str | Path | None = None) -> None:
    """How the shipped sprite was made from the test files; a test makes it again and compares."""
    from PIL import Image

    images, labels = _read("test", root)
    tiles = np.concatenate([images[labels == CLASSES.index(name)][:PER_CLASS] for name in SUBSET_CLASSES])
    sprite = tiles.reshape(8, 32, 28, 28).swapaxes(1, 2).reshape(8 * 28, 32 * 28)
    Image.fromarray(sprite).save(path, optimize=True)


def _read(split: str, root: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    return fashion_files.read(fashion_files.find_or_fetch(split, root), split)


def _class_names(classes: Iterable[str] | None, available: tuple[str, ...]) -> tuple[str, ...]:
    if classes is None:
        return available
    wanted = [classes] if isinstance(classes, str) else list(classes)
    names = tuple(name.lower().replace(" ", "-") for name in wanted)
    if unknown := [name for name in names if name not in available]:
        raise ValueError(f"classes: no class {', '.join(unknown)} here; there are {', '.join(available)}")
    if not names:
        raise ValueError(f"classes: expected at least one of {', '.join(available)}, or None for all")
    return names
