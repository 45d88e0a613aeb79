"""What a study hands back before anything is written: rows, tables over them, charts and pictures."""

from dataclasses import dataclass, field
from typing import Any

from minidiff.evaluation.results import Row, Table
from minidiff.plot import Picture


@dataclass
class Report:
    """rows of figures; tables by name; figures: name -> (matplotlib Figure, alternative text); pictures: name -> PNG."""

    rows: list[Row] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, tuple[Any, str]] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
