"""Figures for lessons, the tour and the studies: always with alternative text, in colours that everyone can tell apart.

`grid` shows rows of pictures, `curves` lines, `show` any matplotlib figure. In Jupyter they appear at once; elsewhere
they are a `Picture`, which knows its PNG, its HTML and how to save itself. `layout` makes pictures of semantic maps.
"""

import base64
import html
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minidiff.files import write_whole

# Okabe & Ito, "Color universal design" (2008), without the yellow that white paper swallows. Lines also differ in dash
# and marker, so that they survive a grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
# For the parts of a map: Tol, "Colour schemes" (SRON technical note, 2021), "muted", with white and black.
MAP_COLOURS = (
    "#DDDDDD", "#CC6677", "#DDCC77", "#999933", "#FFFFFF", "#88CCEE",
    "#000000", "#882255", "#AA4499", "#117733", "#332288", "#44AA99",
)  # fmt: skip
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass
class Picture:
    """A finished figure: PNG bytes, alternative text, and its width in a page (CSS pixels)."""

    png: bytes = field(repr=False)
    alt: str
    width: int
    _shown_in: int | None = field(default=None, repr=False, compare=False)  # the cell where it appeared at once

    @property
    def html(self) -> str:
        """An <img> that carries its own pixels: nothing to load, nothing to lose."""
        data = base64.b64encode(self.png).decode()
        style = f"width:{self.width}px;max-width:100%"
        return f'<img alt="{html.escape(self.alt)}" style="{style}" src="data:image/png;base64,{data}">'

    def save(self, path: str | Path) -> Path:
        """Write the PNG, whole or not at all."""
        return write_whole(path, self.png)

    def show(self) -> "Picture":
        """Appear in Jupyter, now. Elsewhere nothing happens."""
        if (cell := _cell()) is not None:
            self._shown_in = None
            _publish(self)
            self._shown_in = cell
        return self

    def _ipython_display_(self) -> None:
        """Called when a picture ends a cell; one that appeared in this very cell does not appear twice."""
        if self._shown_in is None or self._shown_in != _cell():
            _publish(self)


def style(index: int) -> dict[str, Any]:
    """Colour, dash and marker of the index-th line, as keyword arguments of `ax.plot`."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
    }


def figure(width: float = 7, height: float = 3.2, **subplots: Any) -> tuple[Any, Any]:
    """A matplotlib Figure (inches) and its axes, `figure(7, 3, ncols=2)`; no pyplot, so no state is shared or leaked."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(**subplots)
    for ax in np.atleast_1d(axes).flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def show(fig: Any, *, alt: str, display: bool = True) -> Picture:
    """A matplotlib figure as a `Picture`; in Jupyter it appears at once unless display=False."""
    check_alt(alt)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=150)
    picture = Picture(buffer.getvalue(), alt, round(96 * fig.get_figwidth()))
    return picture.show() if display else picture


def curves(
    lines: Mapping[str, Any],
    *,
    alt: str,
    x: Any = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    bands: Mapping[str, tuple[Any, Any]] | None = None,
    logx: bool = False,
    logy: bool = False,
    size: tuple[float, float] = (7, 3.2),
    display: bool = True,
) -> Picture:
    """Lines by name: {"ours": y} over a common `x`, or {"ours": (x, y)}; bands {"ours": (low, high)} shade around them."""
    check_alt(alt)
    fig = draw_curves(lines, x, xlabel, ylabel, title, bands or {}, logx, logy, size)
    return show(fig, alt=alt, display=display)


def draw_curves(lines, x=None, xlabel="", ylabel="", title="", bands=(), logx=False, logy=False, size=(7, 3.2)) -> Any:
    """The matplotlib Figure behind `curves`, for SVG files and further drawing."""
    fig, ax = figure(*size)
    for index, (name, line) in enumerate(lines.items()):
        along, up = line if x is None and isinstance(line, tuple) else (x, line)
        up = _array(up)
        along = np.arange(len(up)) if along is None else _array(along)
        look = style(index) if len(up) <= 40 else style(index) | {"marker": None}
        ax.plot(along, up, label=name, **look)
        if name in bands:
            low, high = (_array(edge) for edge in bands[name])
            ax.fill_between(along, low, high, color=look["color"], alpha=0.15, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if logx:
        ax.set_xscale("log")
    if logy:
        ax.set_yscale("log")
    if len(lines) > 1:
        ax.legend(frameon=False, fontsize="small")
    return fig


def grid(
    rows: Sequence[Tensor] | Tensor,
    *,
    alt: str,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    scale: float | None = None,
    display: bool = True,
) -> Picture:
    """Rows of pictures as one figure: each row a tensor (B, C, H, W) in [-1, 1], grey or RGB, or one tensor for one row.

    scale: screen pixels per picture pixel (by default what makes the figure about 720 wide, at most 3). Values outside
    [-1, 1] are clamped, as on any screen. Raises ValueError for other shapes or labels that do not match.
    """
    check_alt(alt)
    canvas = compose([rows] if isinstance(rows, Tensor) else rows, row_labels, column_labels, scale)
    picture = Picture(_png(canvas), alt, canvas.width)
    return picture.show() if display else picture


def compose(rows, row_labels=(), column_labels=(), scale=None, gap: int = 4) -> Any:
    """The Pillow image behind `grid`."""
    from PIL import Image, ImageDraw, ImageFont

    tiles = [pixels(row) for row in rows]
    if not tiles:
        raise ValueError("rows: expected at least one row of pictures, got none")
    columns = max(len(row) for row in tiles)
    for name, labels, count in (("row_labels", row_labels, len(tiles)), ("column_labels", column_labels, columns)):
        if labels and len(labels) != count:
            raise ValueError(f"{name}: expected {count} labels, one each, got {len(labels)}")

    font = ImageFont.load_default(13)
    left = gap + max((round(font.getlength(label)) + 8 for label in row_labels), default=0)
    top = gap + (18 if column_labels else 0)
    pitch = max(row.shape[2] for row in tiles)
    scale = scale or min(3.0, max(1.0, (720 - left) / (columns * pitch) - gap / pitch))
    sizes = [(round(row.shape[2] * scale), round(row.shape[1] * scale)) for row in tiles]  # (width, height) of a tile
    cell = max(width for width, _ in sizes) + gap

    canvas = Image.new("RGB", (left + columns * cell, top + sum(height + gap for _, height in sizes)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, label in enumerate(column_labels):
        draw.text((left + column * cell + (cell - gap) / 2, 10), label, "black", font, anchor="mm")
    for index, (row, size) in enumerate(zip(tiles, sizes)):
        if row_labels:
            draw.text((left - 8, top + size[1] / 2), row_labels[index], "black", font, anchor="rm")
        for column, tile in enumerate(row):
            image = Image.fromarray(tile)
            image = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
            canvas.paste(image, (left + column * cell, top))
        top += size[1] + gap
    return canvas


def save_png(images: Tensor, path: str | Path, ncol: int | None = None, scale: float = 1.0) -> Path:
    """Write pictures (B, C, H, W) in [-1, 1], or one (C, H, W), as one PNG with `ncol` columns, whole or not at all."""
    images = images[None] if images.ndim == 3 else images
    ncol = ncol or len(images)
    if ncol < 1:
        raise ValueError(f"ncol: expected at least 1, got {ncol}")
    return write_whole(path, _png(compose(images.split(ncol), scale=scale)))


def save_svg(fig: Any, path: str | Path, *, alt: str) -> Path:
    """Write a matplotlib figure as an SVG that screen readers can read; a figure drawn anew gives the same bytes."""
    import matplotlib

    check_alt(alt)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "minidiff", "svg.fonttype": "none"}):
        fig.savefig(buffer, format="svg", metadata={"Date": None})
    text = html.escape(alt)
    return write_whole(path, buffer.getvalue().replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1))


def pixels(images: Tensor) -> np.ndarray:
    """Pictures (B, C, H, W) in [-1, 1] -> bytes (B, H, W, 3); grey ones get three equal channels."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3):
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images: expected a tensor (B, 1 or 3, H, W), got {got}")
    images = images.detach().float().cpu().clamp(-1, 1).expand(-1, 3, -1, -1)
    return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def layout(parts: Tensor) -> Tensor:
    """A semantic map as pictures: part numbers (B, H, W) -> (B, 3, H, W) in [-1, 1], the n-th of MAP_COLOURS for part n.

    Raises ValueError for anything but whole numbers from 0 to 11.
    """
    if not isinstance(parts, Tensor) or parts.ndim != 3 or parts.is_floating_point():
        got = f"{parts.dtype} of shape {tuple(parts.shape)}" if isinstance(parts, Tensor) else type(parts).__name__
        raise ValueError(f"parts: expected whole numbers (B, H, W), got {got}")
    if parts.numel() and not 0 <= parts.min() <= parts.max() < len(MAP_COLOURS):
        raise ValueError(f"parts: expected numbers 0 to {len(MAP_COLOURS) - 1}, got {parts.min()} to {parts.max()}")
    colours = torch.tensor([list(bytes.fromhex(colour[1:])) for colour in MAP_COLOURS], device=parts.device)
    return (colours[parts.long()] / 127.5 - 1).movedim(3, 1)


def check_alt(alt: str) -> None:
    """Raise ValueError unless the alternative text is a sentence that can stand in for the picture."""
    if not isinstance(alt, str) or len(alt.split()) < 4 or alt.strip()[-1] not in ".!?":
        raise ValueError(
            f"alt: expected at least one whole sentence that tells what the picture shows, ending in a stop, got {alt!r}"
        )


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _cell() -> int | None:
    """The number of the running notebook cell; None outside Jupyter."""
    if "IPython" not in sys.modules:
        return None
    shell = sys.modules["IPython"].get_ipython()
    return shell.execution_count if shell is not None and hasattr(shell, "kernel") else None


def _publish(picture: Picture) -> None:
    from IPython.display import display

    display({"text/html": picture.html, "text/plain": picture.alt}, raw=True)
