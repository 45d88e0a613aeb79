"""Pictures in [-1, 1] as PNG files, one by one or as a grid to look at; a file is written whole or not at all."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

GAP = 2  # white pixels around every picture of a grid
EASY_TO_SEE = 128  # smaller pictures are shown enlarged by a whole factor


def to_bytes(images: Tensor) -> Tensor:
    """Pictures (..., C, H, W) as uint8; what lies outside [-1, 1] is clipped, as a screen would."""
    return ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()


def grid(rows: Iterable[Tensor]) -> Tensor:
    """Rows of pictures, each (N, C, H, W) with its own N, as one picture (C, H', W') in [-1, 1] on white.

    Raises ValueError when the pictures are not of one shape.
    """
    rows = [row.detach().float().cpu() for row in rows]
    if len({row.shape[1:] for row in rows}) != 1 or rows[0].ndim != 4:
        raise ValueError(f"rows: expected pictures (N, C, H, W) of one shape, got {[tuple(row.shape) for row in rows]}")
    times = max(1, EASY_TO_SEE // rows[0].shape[-1])
    most = max(map(len, rows))
    strips = []
    for row in rows:
        row = F.pad(row.repeat_interleave(times, -1).repeat_interleave(times, -2), [GAP] * 4, value=1.0)
        row = torch.cat([row, row.new_ones(most - len(row), *row.shape[1:])])  # (most, C, h, w)
        strips.append(torch.cat(row.unbind(), dim=-1))
    return torch.cat(strips, dim=-2)


def write_grid(rows: Iterable[Tensor], path: str | Path) -> Path:
    """Write `grid(rows)`; returns the path."""
    return write_png(grid(rows), path)


def write_png(image: Tensor, path: str | Path) -> Path:
    """Write one picture (1 or 3, H, W) in [-1, 1] as PNG; returns the path. Raises ValueError for another shape or suffix."""
    path = Path(path)
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"image: expected shape (1, H, W) or (3, H, W), got {tuple(image.shape)}")
    if path.suffix.lower() != ".png":
        raise ValueError(f"path: expected a name that ends in .png, got {path}")
    pixels = to_bytes(image).permute(1, 2, 0).squeeze(-1).numpy()  # (H, W) or (H, W, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            Image.fromarray(pixels).save(file, format="PNG")
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return path
