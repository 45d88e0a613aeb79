"""The four files of Fashion-MNIST: found on this machine, or fetched once, and checked before a pixel of them is used.

Xiao, Rasul & Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms", 2017
(arXiv 1708.07747). They are in MNIST's idx format: a magic number, the dimensions, then plain bytes; all compressed by gzip.
"""

import gzip
import hashlib
import math
import os
import struct
import urllib.request
import zlib
from pathlib import Path

import numpy as np

from minidiff.files import write_whole

SOURCE = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # apt install dataset-fashion-mnist

# SHA-256 of the uncompressed bytes: Debian compresses the files anew, so that only their contents are the authors' own.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
PREFIX = {"train": "train", "test": "t10k"}


def names(split: str) -> tuple[str, str]:
    """The file of pictures and the file of labels of "train" or "test"."""
    return f"{PREFIX[split]}-images-idx3-ubyte", f"{PREFIX[split]}-labels-idx1-ubyte"


def cache() -> Path:
    """Where fetched files are kept: $XDG_CACHE_HOME/minidiff/fashion-mnist, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minidiff" / "fashion-mnist"


def places() -> list[Path]:
    """Where the files are looked for, in this order: $MINIDIFF_DATA, Debian's package, the cache."""
    own = os.environ.get("MINIDIFF_DATA")
    return ([Path(own) / "fashion-mnist", Path(own)] if own else []) + [DEBIAN, cache()]


def find(split: str, root: str | Path | None = None) -> Path | None:
    """The first folder with both files of the split, or None. `root` given: that folder and no other."""
    folders = places() if root is None else [Path(root)]
    files = [f"{name}.gz" for name in names(split)]
    return next((folder for folder in folders if all((folder / file).is_file() for file in files)), None)


def find_or_fetch(split: str, root: str | Path | None = None) -> Path:
    """As `find`, but with no `root` what is found nowhere is downloaded. Raises FileNotFoundError where that cannot be."""
    if folder := find(split, root):
        return folder
    if root is not None:
        raise FileNotFoundError(f"root: no {' and '.join(f'{name}.gz' for name in names(split))} in {root}")
    try:
        return fetch(split)
    except OSError as error:
        looked = ", ".join(str(place) for place in places())
        raise FileNotFoundError(
            f"Fashion-MNIST is not in {looked}, and downloading it failed ({error}). Install Debian's package "
            'dataset-fashion-mnist, name a folder with $MINIDIFF_DATA, or use split="subset", which ships with minidiff'
        ) from error


def fetch(split: str, folder: Path | None = None, source: str | None = None) -> Path:
    """Download both files of a split (train 26 MB, test 4 MB), check them, and only then give them their names."""
    folder = cache() if folder is None else Path(folder)
    for name in names(split):
        path = folder / f"{name}.gz"
        if not path.exists():
            compressed = _download(f"{source or SOURCE}{path.name}")
            parse_idx(compressed, f"{path.name} as downloaded", SHA256[name])
            write_whole(path, compressed)
    return folder


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 28, 28) and labels (N,), uint8. Raises ValueError naming the file when it is damaged or another one."""
    images, labels = (read_idx(folder / f"{name}.gz", SHA256[name]) for name in names(split))
    return images, labels


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """One gzip-compressed idx file of bytes, as the array it holds; with `sha256`, that of its uncompressed contents."""
    return parse_idx(path.read_bytes(), path, sha256)


def parse_idx(compressed: bytes, name: str | Path, sha256: str | None = None) -> np.ndarray:
    """What `read_idx` does, for bytes that came from `name`."""
    advice = "delete it and it is looked for elsewhere or fetched again"
    try:
        data = gzip.decompress(compressed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name} is truncated or damaged ({error}); {advice}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise ValueError(f"{name} is no idx file of bytes: it begins {data[:4].hex() or 'empty'}, not 000008; {advice}")
    start = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise ValueError(f"{name} has {len(data) - start} bytes of pixels, its shape {shape} needs {math.prod(shape)}")
    if sha256 and (got := hashlib.sha256(data).hexdigest()) != sha256:
        raise ValueError(
            f"{name} is not the Fashion-MNIST file of that name: its contents have sha256 {got}, not {sha256}; {advice}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _download(url: str) -> bytes:
    from tqdm import tqdm

    blocks = []
    with urllib.request.urlopen(url, timeout=30) as response:
        size = int(response.headers.get("Content-Length") or 0) or None
        with tqdm(total=size, unit="B", unit_scale=True, desc=url.rpartition("/")[2]) as bar:
            while block := response.read(2**16):
                blocks.append(block)
                bar.update(len(block))
    return b"".join(blocks)
