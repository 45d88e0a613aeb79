"""Pictures from Hugging Face `datasets`: a name on its hub, parquet files, a folder of images, a set saved to disk.

`HubPictures` is indexed like every other set; `HubStream` reads from the front what is too large to be fetched whole.
Each picture is read as `minidiff.data.folder` reads it, so one picture gives the same numbers whichever way it comes.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minidiff.data.folder import DAMAGE, check_square, chosen, square
from minidiff.data.pictures import Indices, as_indices

SAVED = ("dataset_dict.json", "state.json")  # one of them lies in every folder that `save_to_disk` wrote


class HubPictures:
    """A column of images in the order of the dataset, as `Pictures` (channels, size, size), decoded when asked for.

    source: a name on the hub, a .parquet file or a pattern of them, a folder of images or of parquet files, a folder that
    `save_to_disk` wrote, or an opened `datasets.Dataset`. `column` holds the images, `label` the classes where there are
    any: then `classes` keeps only these, and `labels` (N,) are positions in it. split, config and revision (a commit, a
    tag) are those of the hub. channels: 3, or 1 for grey.

    Raises ValueError for a split, column, class or size that is not there, what `datasets` raises where there is no such
    source, and ValueError naming the row when a picture in it is damaged.
    """

    def __init__(
        self,
        source: Any,
        size: int = 64,
        channels: int = 3,
        classes: Iterable[str] | None = None,
        split: str = "train",
        column: str = "image",
        label: str = "label",
        config: str | None = None,
        revision: str | None = None,
    ):
        check_square(size, channels)
        table = open_table(source, split, column, config, revision)
        names = class_names(table, label)
        self.classes = names if classes is None else chosen(classes, names)
        self.size, self.channels, self.column = size, channels, column
        self.name = f"{named(source)}, {split}"
        if names:
            labels = torch.tensor([-1 if value is None else value for value in table[label][:]])
            places = torch.tensor([self.classes.index(name) if name in self.classes else -1 for name in (*names, None)])
            self.labels = places[labels]
            if classes is not None:
                table = table.select((self.labels >= 0).nonzero().flatten().tolist())
                self.labels = self.labels[self.labels >= 0]
        self._table = table.select_columns([column])

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, indices: Indices) -> Tensor:
        """Pictures (B, channels, size, size) in [-1, 1]; a single int gives (channels, size, size)."""
        rows = as_indices(indices, len(self)).tolist()
        cells = self._table[rows][self.column] if rows else []
        images = [read_cell(cell, self.size, self.channels, f"{self.name}, row {i}") for i, cell in zip(rows, cells)]
        if isinstance(indices, int):
            return images[0]
        return torch.stack(images) if images else torch.zeros(0, *self.shape)


class HubStream:
    """The first `length` pictures of a dataset as a `PictureStream`: fetched while they are read, and never kept.

    The arguments are those of `HubPictures`; an opened `datasets.IterableDataset` is a source, too. shuffle: rows pass
    through a buffer of so many, which `seed` mixes; without it the order is the dataset's, often sorted by class.
    Raises what `HubPictures` raises, and ValueError at its end when the dataset has fewer pictures than `length`.
    """

    def __init__(
        self,
        source: Any,
        length: int,
        size: int = 64,
        channels: int = 3,
        classes: Iterable[str] | None = None,
        split: str = "train",
        column: str = "image",
        label: str = "label",
        config: str | None = None,
        revision: str | None = None,
        shuffle: int = 0,
        seed: int = 0,
    ):
        check_square(size, channels)
        if length < 1:
            raise ValueError(f"length: expected at least 1 picture, got {length}")
        table = open_table(source, split, column, config, revision, streaming=True)
        names = class_names(table, label)
        self.classes = names if classes is None else chosen(classes, names)
        self.length, self.size, self.channels, self.column, self.label = length, size, channels, column, label
        self.name = f"{named(source)}, {split}"
        self._wanted = None if classes is None else {names.index(name) for name in self.classes}
        table = table.select_columns([column] if classes is None else [column, label])
        self._table = table.shuffle(seed=seed, buffer_size=shuffle) if shuffle else table

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Tensor]:
        return self.part(0, 1)

    def part(self, first: int, step: int) -> Iterator[Tensor]:
        """Pictures first, first + step, ... as (channels, size, size) in [-1, 1]; what lies between is not decoded."""
        rows = (row for row in self._table if self._wanted is None or row[self.label] in self._wanted)
        number = -1
        for number, row in enumerate(islice(rows, self.length)):
            if number >= first and (number - first) % step == 0:
                yield read_cell(row[self.column], self.size, self.channels, f"{self.name}, picture {number}")
        if number + 1 < self.length:
            raise ValueError(f"length: {self.name} has {number + 1} such pictures, expected {self.length}")


def open_table(
    source: Any,
    split: str,
    column: str,
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Any:
    """The dataset behind a source, with images left as files until they are read. Raises as `HubPictures` says."""
    datasets = import_datasets()
    if isinstance(source, datasets.Dataset | datasets.IterableDataset):
        table = source
    elif any((Path(source) / name).is_file() for name in SAVED):
        table = datasets.load_from_disk(str(source))
        if isinstance(table, Mapping):
            if split not in table:
                raise ValueError(f"split: no {split!r} in {named(source)}; there is {', '.join(table)}")
            table = table[split]
    elif str(source).endswith(".parquet"):
        table = datasets.load_dataset("parquet", data_files=str(source), split="train", streaming=streaming)
    else:
        table = datasets.load_dataset(str(source), config, split=split, revision=revision, streaming=streaming)
    if streaming and isinstance(table, datasets.Dataset):
        table = table.to_iterable_dataset()
    if not streaming and isinstance(table, datasets.IterableDataset):
        raise ValueError("source: the rows of an IterableDataset have no numbers; read it by HubStream")
    if column not in (columns := table.column_names or []):
        raise ValueError(f"column: no column {column!r} in {named(source)}; there is {', '.join(columns) or 'none'}")
    return table.cast_column(column, datasets.Image(decode=False))


def named(source: Any) -> str:
    """How a message calls a source."""
    return str(source) if isinstance(source, str | Path) else "dataset"


def class_names(table: Any, label: str) -> tuple[str, ...]:
    """The names of the classes in a column of labels; none where there is no such column."""
    return tuple(getattr(table.features.get(label), "names", None) or ())


def read_cell(cell: Any, size: int, channels: int, where: str) -> Tensor:
    """One picture, from what stands in its row: {"path", "bytes"}. Raises ValueError saying where it is damaged."""
    if cell is None:
        raise ValueError(f"{where} holds no picture")
    try:
        return square(import_datasets().Image().decode_example(cell), size, channels)
    except DAMAGE as error:
        raise ValueError(f"{where} is truncated or damaged: {error}") from error


def import_datasets():
    """Hugging Face `datasets`, when it is needed and not before. Raises ImportError saying how to get it."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError('pictures of the hub need datasets: pip install "minidiff[hub]"') from error
    return datasets
