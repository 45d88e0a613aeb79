"""`python -m benchmarks [NAME ...]`: run all benchmarks, or some, and write benchmarks/results/NAME.json, .csv and README.md.

On a GPU, if there is one, into NAME-gpu. All of them take about twenty minutes on two cores, but for those that run on request
alone. `--quick` runs the same code on next to nothing, to see that it works, and writes into a new temporary folder.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import report
from minidiff.evaluation import results
from minidiff.fast import measure as fast
from minidiff.machine import machine

# Memory and time of new processes first: a child inherits its parent's peak.
BENCHMARKS = ("memory", "guidance", "lessons", "tour", "startup", "drawing", "floor", "sampling", "growth", "pixels")
BENCHMARKS += ("training", "editing", "quality", "afhq_work")
ON_REQUEST = ("lessons",)  # they take half as long again as all else, and the tests run them as well
FOLDER = Path(__file__).parent / "results"
ALL = "all but " + ", ".join(ON_REQUEST)
RIVALS = ("diffusers", "smalldiffusion", "denoising-diffusion-pytorch")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description="How fast it is, beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)} (default: {ALL})")
    parser.add_argument("--quick", action="store_true", help="only see that everything works, in under a minute")
    parser.add_argument("--out", type=Path, help="the folder to write into")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        sys.exit(f"benchmarks: there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    folder = options.out or (Path(tempfile.mkdtemp(prefix="minidiff-benchmarks-")) if options.quick else FOLDER)
    if options.quick:
        be_quick()
    else:
        fast.forget()  # what was measured on a busy machine
    for name in options.names or [name for name in BENCHMARKS if name not in ON_REQUEST]:
        run(name, options.quick, folder)
    print(f"The tables are in {report.write(folder)}")


def be_quick() -> None:
    """Measure the forms of networks at one size only, and do not keep what is found."""
    fast.SIZES = (1,)
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="minidiff-cache-")


def run(name: str, quick: bool, folder: Path, **settings: Any) -> None:
    """One benchmark into its files. In a quick run, those that have no quick form are left out."""
    module = importlib.import_module(f"benchmarks.{name}")
    if quick and not hasattr(module, "QUICK"):
        return print(f"{name}: left out, it has no quick form")
    start = time.perf_counter()
    found = module.measure(**(module.QUICK if quick else {}) | settings)
    seconds = round(time.perf_counter() - start, 1)
    command = f"python -m benchmarks {name}" + (" --quick" if quick else "")
    known = {"machine": machine() | gpu(), "versions": results.versions() | rivals()}
    label = name + ("-gpu" if gpu() else "")
    results.write(results.Results(label, command, found.rows, found.tables, {}, quick, seconds, **known), folder)
    for row in found.rows:
        print(f"{name + '/' + row.name:60s} {'-' if row.value is None else f'{row.value:.4g}':>12s} {row.unit}")


def gpu() -> dict[str, str]:
    import torch

    return {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}


def rivals() -> dict[str, str]:
    """The versions of the peers that are installed."""
    found = {}
    for name in RIVALS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
