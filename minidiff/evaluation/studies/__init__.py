"""The studies behind `minidiff reproduce NAME`: each measures, and only when all went well are its files written.

results/NAME.json and NAME.csv hold the figures, NAME-*.svg the charts and NAME-*.png the pictures. `--quick` runs the same
code on a handful of pictures, to see that it works: its figures mean nothing and never replace those of a full run.
"""

import inspect
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from minidiff import zoo
from minidiff.evaluation import results
from minidiff.evaluation.results import FOLDER, Results
from minidiff.evaluation.studies import (
    captions,
    codes,
    compression,
    conditioning,
    coverage,
    editing,
    fashion,
    reconstruction,
    translation,
)
from minidiff.evaluation.studies.report import Report
from minidiff.plot import save_svg
from minidiff.processes import device, from_first, here

STUDIES = {
    "translation": translation,
    "fashion": fashion,
    "reconstruction": reconstruction,
    "captions": captions,
    "conditioning": conditioning,
    "editing": editing,
    "compression": compression,
    "codes": codes,
    "coverage": coverage,
}
SHARED = ("translation", "fashion")


def reproduce(name: str, quick: bool = False, out: str | Path | None = None, **settings: Any) -> Path:
    """Run a study and write its files into `out` (results/; for a quick run a new temporary folder).

    `settings` change the study's defaults (n, steps, strengths, ...). Returns the path of NAME.json. Raises ValueError for
    an unknown study or setting, or when a quick run is to replace a full one, before any work is done.

    Under `accelerate launch` the processes share out the pictures of SHARED studies, each on its own GPU where there are
    any, and what probes and SSIM read in those of all. The first process alone writes.
    """
    if name not in STUDIES:
        raise ValueError(f"name: expected one of {', '.join(STUDIES)}, got {name!r}")
    module = STUDIES[name]
    known = inspect.signature(module.study).parameters
    if unknown := set(settings) - set(known):
        raise ValueError(f"{name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    if out is None:
        out = from_first(lambda: tempfile.mkdtemp(prefix=f"minidiff-{name}-")) if quick else FOLDER
    folder, ranks = Path(out), here()[1]
    results.refuse_to_replace(folder / f"{name}.json", quick)

    chosen = (module.QUICK if quick else {}) | settings
    if ranks > 1 and name in SHARED:
        chosen = {"load": partial(zoo.load, device=device())} | chosen
    start = time.perf_counter()
    report = module.study(**chosen)
    seconds = round(time.perf_counter() - start, 1)

    everything = _written({key: parameter.default for key, parameter in known.items()} | chosen)
    command = _command(name, quick, settings)
    found = Results(name, command, report.rows, report.tables, everything, quick, seconds)
    if ranks > 1:
        found.machine["processes"] = ranks
    return from_first(lambda: _write(found, report, folder))


def _write(found: Results, report: Report, folder: Path) -> Path:
    """Charts, pictures, and when they are there the figures."""
    for key, (fig, alt) in report.figures.items():
        save_svg(fig, folder / f"{found.name}-{key}.svg", alt=alt)
    for key, picture in report.pictures.items():
        picture.save(folder / f"{found.name}-{key}.png")
    return results.write(found, folder)


def _written(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that say what was measured; the others are functions that say where models come from."""
    return {key: value for key, value in settings.items() if not callable(value)}


def _command(name: str, quick: bool, settings: dict[str, Any]) -> str:
    """What to type to get these figures again: the terminal command, or the call where settings differ from its own."""
    changed = _written(settings)
    if not changed:
        return f"minidiff reproduce {name}" + (" --quick" if quick else "")
    arguments = [
        repr(name),
        *(["quick=True"] if quick else []),
        *(f"{key}={value!r}" for key, value in changed.items()),
    ]
    return f"minidiff.evaluation.studies.reproduce({', '.join(arguments)})"
