"""Is everything here that the lessons need? One line for each thing, and for each fault what to do about it.

`minidiff doctor` prints it; the first lesson calls `checks` itself.
"""

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

NEEDED = ("torch", "numpy", "safetensors", "accelerate", "pillow", "matplotlib")
LAB = ("jupyterlab", "ipywidgets", "jupytext", "diffusers", "open_clip_torch")
MARKS = {"ok": "ok  ", "note": "note", "fault": "FAULT"}


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is "ok", a "note" (works, but good to know) or a "fault", and what was found."""

    name: str
    state: str
    found: str

    def __str__(self) -> str:
        return f"{MARKS[self.state]:5} {self.name:15} {self.found}"


def checks() -> Iterator[Check]:
    """Look at one thing after the other, quick ones first; an unexpected error becomes a fault, never an exception."""
    for name, look in LOOKS.items():
        try:
            yield Check(name, *look())
        except Exception as error:
            yield Check(name, "fault", f"{type(error).__name__}: {error}")


def healthy(found: list[Check]) -> bool:
    return all(check.state != "fault" for check in found)


def look_python() -> tuple[str, str]:
    state = "ok" if sys.version_info >= (3, 11) else "fault"
    return state, f"{platform.python_version()} on {platform.system()} {platform.machine()}, needs 3.11 or newer"


def look_packages() -> tuple[str, str]:
    have, missing = _versions(NEEDED)
    if missing:
        return "fault", f'missing: {", ".join(missing)}; run: pip install -e ".[lab,test]"'
    return "ok", have


def look_lab() -> tuple[str, str]:
    from minidiff.lab import kernel_python

    have, missing = _versions(LAB)
    if missing:
        return "note", f'the lessons also need {", ".join(missing)}: pip install -e ".[lab]"'
    kernel = kernel_python()
    if kernel is None or not Path(kernel).exists() or not Path(kernel).samefile(sys.executable):
        return "fault", f"notebooks would run on {kernel}, not on {sys.executable}: start JupyterLab by `minidiff lab`"
    return "ok", have


def look_machine() -> tuple[str, str]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU (none is needed)"
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return "ok", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}; {gpu}; {free:.0f} GB of disk free"


def look_weights() -> tuple[str, str]:
    from minidiff import zoo

    models = zoo.manifest()
    if not models:
        return "note", f"no trained models in {zoo.WEIGHTS}"
    size = sum(len(zoo.read_verified(entry, zoo.WEIGHTS)) for entry in models.values())
    return "ok", f"{len(models)} models, {size / 1e6:.1f} MB, every sha256 is the manifest's"


def look_fashion() -> tuple[str, str]:
    from minidiff.data import fashion, fashion_files

    shipped = f"{len(fashion.FashionMNIST('subset'))} pictures ship with minidiff"
    folder = fashion_files.find("test")
    if folder is None:
        return "note", f"{shipped}; all 70,000: `minidiff data fashion` or Debian's package dataset-fashion-mnist"
    return "ok", f"{shipped}, all of them are in {folder}"


def look_picture() -> tuple[str, str]:
    import minidiff
    from minidiff import zoo
    from minidiff.data.critters import Critters

    start = time.perf_counter()
    if "critters-cat" in zoo.names():
        image, what = minidiff.load("critters-cat").replace(steps=10).sample(1)[0], "sampled in 10 steps"
    else:
        image, what = Critters("cat")[0], "drawn"
    seconds = time.perf_counter() - start
    sane = bool(image.isfinite().all()) and image.std() > 0.1
    return "ok" if sane else "fault", f"a cat, {what}, {tuple(image.shape)}, in {seconds:.1f} s"


LOOKS: dict[str, Callable[[], tuple[str, str]]] = {
    "Python": look_python,
    "packages": look_packages,
    "JupyterLab": look_lab,
    "machine": look_machine,
    "weights": look_weights,
    "Fashion-MNIST": look_fashion,
    "first picture": look_picture,
}


def _versions(names: tuple[str, ...]) -> tuple[str, list[str]]:
    have, missing = [], []
    for name in names:
        try:
            have.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    return ", ".join(have), missing
