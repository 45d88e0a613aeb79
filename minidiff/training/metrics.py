"""The metrics file: one JSON object a line, appended while training and cut back to the checkpoint on resume.

So a run that was killed and resumed leaves the same rows as one that was not, times aside.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from minidiff.files import write_whole


def append(path: Path, row: dict) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def rows(path: Path) -> Iterator[dict]:
    """The rows of a metrics file. A last line cut short by a kill is left out."""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def cut(path: Path, step: int) -> None:
    """Keep the rows up to `step`: what came later will be trained, and written, again."""
    if Path(path).exists():
        kept = [json.dumps(row) + "\n" for row in rows(path) if row["step"] <= step]
        write_whole(path, "".join(kept).encode())
