"""Keep what people read in step with what was measured: figures between two marks are generated, never typed.

`<!-- results: translation best -->...<!-- end -->` becomes the table "best" of results/translation.json; with the name
of a row in place of "best", it becomes that figure, in the middle of a sentence if need be. "benchmarks:" in place of
"results:" takes it from benchmarks/results, where what has not been measured yet is a dash.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from minidiff.evaluation.results import FOLDER, markdown_table, read, shown
from minidiff.files import write_whole

BENCHMARKS = Path("benchmarks") / "results"
OPEN = r"<!-- (?P<kind>results|benchmarks): (?P<name>[\w-]+) (?P<what>[^\n]+?) -->"
MARK = re.compile(rf"(?P<open>{OPEN})(?P<inside>.*?)(?P<close><!-- end -->)", re.DOTALL)
PLACES = ("README.md", "lessons/*.py", "docs/**/*.md", "book/**/*.md")


def documents(root: str | Path = ".") -> list[Path]:
    """Every text of the repository that may quote a figure."""
    return sorted(path for place in PLACES for path in Path(root).glob(place) if path.is_file())


def update(
    paths: Iterable[Path], folder: str | Path = FOLDER, write: bool = True, benchmarks: Path = BENCHMARKS
) -> list[Path]:
    """Fill in the marks of some documents from the results in two folders; returns those that changed (or would change).

    Raises FileNotFoundError for results that are not there, KeyError for a table or row that they do not have, ValueError
    for a mark without an end.
    """
    changed = []
    for path in paths:
        old = path.read_text(encoding="utf-8")
        new = filled(old, folder, path.name, benchmarks)
        if new != old:
            changed.append(path)
            if write:
                write_whole(path, new)
    return changed


def filled(text: str, folder: str | Path = FOLDER, where: str = "text", benchmarks: Path = BENCHMARKS) -> str:
    """`text` with every mark filled in. In a lesson the lines of a table get the "# " of the mark's own line."""
    opened = [match["kind"] for match in re.finditer(OPEN, text)]
    if text.count("<!-- results: ") != opened.count("results") or len(opened) != len(MARK.findall(text)):
        raise ValueError(f"{where}: a <!-- results: NAME WHAT --> has no WHAT or no <!-- end -->")

    def fill(match: re.Match) -> str:
        if match["kind"] == "benchmarks" and not (benchmarks / f"{match['name']}.json").is_file():
            return f"{match['open']}-{match['close']}"
        results = read(match["name"], folder if match["kind"] == "results" else benchmarks)
        if match["what"] in results.tables:
            before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]  # "# " in a lesson, else ""
            lines = markdown_table(results.rows, results.tables[match["what"]]).split("\n")
            inside = "".join("\n" + f"{before}{line}".rstrip() for line in ["", *lines, ""]) + f"\n{before}"
        else:
            inside = shown(results[match["what"]])
        return match["open"] + inside + match["close"]

    return MARK.sub(fill, text)
