"""Every figure that people read comes from a file that a command wrote: results/NAME.json, with its doubts and its origins.

A row is {"name", "value", "unit", "n", "seed", "interval"}; its name is a path, "cat-dog/sdedit/strength 0.6/psnr_truth",
whose last part is the quantity. Tables are views of rows, stored as lists of row paths and columns beside them.
"""

import csv
import datetime
import io
import json
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minidiff.evaluation.intervals import Estimate
from minidiff.files import write_whole
from minidiff.machine import machine

FOLDER = Path("results")


@dataclass(frozen=True)
class Row:
    """One measured figure. interval: 95 %, where there is one; seed: of the pictures or of the noise behind it."""

    name: str
    value: float | None  # None where it is undefined (no wearers to count, no variation to correlate)
    unit: str
    n: int
    seed: int
    interval: tuple[float, float] | None = None

    @property
    def quantity(self) -> str:
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Table:
    """A view of rows for people: one line per path in `lines` (path -> label), one column per quantity (-> heading)."""

    lines: dict[str, str]
    columns: dict[str, str]
    corner: str = ""


@dataclass
class Results:
    """A study's outcome and where it came from."""

    name: str
    command: str
    rows: list[Row]
    tables: dict[str, Table] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    seconds: float = 0.0
    date: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat())
    machine: dict[str, Any] = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=lambda: versions())

    def __getitem__(self, name: str) -> Row:
        """The row of that name. Raises KeyError with the names that share its beginning."""
        for row in self.rows:
            if row.name == name:
                return row
        near = [row.name for row in self.rows if row.name.startswith(name.partition("/")[0] + "/")]
        raise KeyError(f"{self.name} has no row {name!r}; some are {', '.join(near[:5]) or self.rows[0].name}")


def row(name: str, estimate: Estimate | float, unit: str, seed: int, n: int = 1) -> Row:
    """A row from an estimate, or from a bare number that stands for n pictures; NaN and infinity become None."""
    value, interval, n = estimate if isinstance(estimate, Estimate) else (estimate, None, n)
    value = float(value)
    interval = None if interval is None else (_rounded(interval[0]), _rounded(interval[1]))
    return Row(name, _rounded(value) if math.isfinite(value) else None, unit, n, seed, interval)


def write(results: Results, folder: str | Path = FOLDER) -> Path:
    """Write NAME.json and NAME.csv into `folder`, each whole or not at all; returns the path of the JSON file.

    Raises ValueError for two rows of one name, or when a quick run would replace a full one.
    """
    path = Path(folder) / f"{results.name}.json"
    names = [row.name for row in results.rows]
    if len(names) != len(set(names)):
        raise ValueError(f"rows: two of them are called {next(n for n in names if names.count(n) > 1)!r}")
    refuse_to_replace(path, results.quick)
    write_whole(path.with_suffix(".csv"), to_csv(results.rows))
    head = json.dumps({key: value for key, value in asdict(results).items() if key != "rows"}, indent=1)
    lines = ",\n".join(f"  {json.dumps(asdict(row), allow_nan=False)}" for row in results.rows)  # one row, one line
    return write_whole(path, f'{head[:-2]},\n "rows": [\n{lines}\n ]\n}}\n')


def read(name: str, folder: str | Path = FOLDER) -> Results:
    """The results that `minidiff reproduce NAME` wrote. Raises FileNotFoundError with that command when there are none."""
    path = Path(folder) / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"results: there is no {path}; `minidiff reproduce {name}` makes it")
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = [Row(**row | {"interval": tuple(row["interval"]) if row["interval"] else None}) for row in data.pop("rows")]
    tables = {key: Table(**table) for key, table in data.pop("tables").items()}
    return Results(rows=rows, tables=tables, **data)


def refuse_to_replace(path: Path, quick: bool) -> None:
    """Raise ValueError when a quick run is about to write over a full one."""
    if quick and path.is_file() and not json.loads(path.read_text(encoding="utf-8")).get("quick"):
        raise ValueError(f"out: {path} holds a full run, which a quick one must not replace; name another folder")


def to_csv(rows: Iterable[Row]) -> str:
    """The rows for spreadsheets: name, value, unit, n, seed, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "value", "unit", "n", "seed", "low", "high"])
    for r in rows:
        writer.writerow([r.name, r.value, r.unit, r.n, r.seed, *(r.interval or (None, None))])
    return text.getvalue()


def markdown_table(rows: Sequence[Row], table: Table) -> str:
    """A Markdown table of rows; a figure that was not measured is a dash."""
    by_name = {r.name: r for r in rows}
    heads = [table.corner, *table.columns.values()]
    lines = [_line(heads), _line(["---"] + ["--:"] * len(table.columns))]
    for path, label in table.lines.items():
        cells = [by_name.get(f"{path}/{quantity}") for quantity in table.columns]
        lines.append(_line([label, *(shown(cell) if cell else "-" for cell in cells)]))
    return "\n".join(lines)


def shown(row: Row, interval: bool = False) -> str:
    """A figure as people read it: 98.2 %, 21.3 dB, 0.953; with its interval on request."""
    if row.value is None:
        return "-"
    text = _number(row.value, row.unit)
    if interval and row.interval:
        text += f" ({_number(row.interval[0], row.unit)} to {_number(row.interval[1], row.unit)})"
    return text


def versions() -> dict[str, str]:
    """The versions that may change a figure."""
    import numpy
    import torch

    import minidiff

    return {
        "minidiff": minidiff.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "dB":
        return f"{value:.1f} dB"
    if unit in ("r", "ssim"):
        return f"{value:.2f}" if abs(value) < 0.95 else f"{value:.3f}"
    if unit in ("calls", "pictures", "codes", "parameters"):
        return f"{value:.0f}"
    digits = ".3g" if abs(value) < 999.5 else ".0f"  # without a power of ten
    return f"{value:{digits}}" + (f" {unit}" if unit == "s" else "")


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
