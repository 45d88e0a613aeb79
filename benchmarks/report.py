"""The tables of all benchmarks in a folder as one page of Markdown, with the machine and the versions behind each."""

import importlib
from pathlib import Path

from minidiff.evaluation.results import Results, markdown_table, read
from minidiff.files import write_whole

HEAD = """# How fast it is

Written by `make bench`; one benchmark alone: `python -m benchmarks NAME`. Medians of several rounds in which all took turns;
intervals, dates and everything else are in NAME.json. Ratios compare within one run, on one machine.
"""


def write(folder: Path) -> Path:
    """folder/README.md, from the results that lie in the folder."""
    sections = [section(read(path.stem, folder)) for path in sorted(folder.glob("*.json"))]
    return write_whole(folder / "README.md", "\n".join([HEAD, *sections]))


def section(found: Results) -> str:
    text = importlib.import_module(f"benchmarks.{found.name.partition('-')[0]}").__doc__  # NAME, or NAME-DEVICE
    machine, versions = found.machine, ", ".join(f"{name} {version}" for name, version in found.versions.items())
    where = machine.get("gpu") or f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads"
    tables = [f"{markdown_table(found.rows, table)}\n" for table in found.tables.values()]
    quick = " A quick run: these figures mean nothing." if found.quick else ""
    line = f"`{found.command}`, {found.date}, {found.seconds:g} s, on {where}; {versions}.{quick}"
    return "\n".join([f"## {found.name}\n", text.strip() + "\n", line + "\n", *tables])
