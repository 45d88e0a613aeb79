"""What one waits for before anything happens: imports, the command's help, the first picture. Each in a new process."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks import clock
from minidiff.evaluation.results import Table, row
from minidiff.evaluation.studies.report import Report

PYTHON = {
    "nothing": "pass",
    "torch": "import torch",
    "minidiff": "import minidiff",
    "torch and minidiff": "import torch, minidiff",
    "torch and minidiff.generators": "import torch, minidiff.generators",
    "first picture": "import minidiff; minidiff.load('critters-cat').replace(steps=10).sample(1)",
    "first picture, fast": "import minidiff; minidiff.load('critters-cat').replace(steps=10).sample(1, fast=True)",
    "torch and diffusers": "import torch; from diffusers import DDIMPipeline, UNet2DModel, AutoencoderKL",
}
HELP = "minidiff --help"
QUICK = {"rounds": 1, "names": ("nothing", "minidiff")}


def measure(rounds: int = 3, names: Sequence[str] = (*PYTHON, HELP)) -> Report:
    """Rounds take turns; every process has read its files before in a round that does not count."""
    with tempfile.TemporaryDirectory() as folder:
        commands = {name: [sys.executable, "-c", PYTHON[name]] for name in names if name in PYTHON}
        if HELP in names:
            commands[HELP] = [sys.executable, "-m", "minidiff.cli", "--help"]
        functions = {
            name: lambda command=command: subprocess.run(command, check=True, capture_output=True, cwd=folder)
            for name, command in commands.items()
        }
        times = clock.seconds(functions, rounds=rounds, budget=float("inf"))
    rows = [row(f"{name}/seconds", clock.median(t), "s", 0) for name, t in times.items()]
    for name in ("minidiff", "minidiff.generators"):
        if {"torch", f"torch and {name}"} <= set(names):
            more = clock.median(times[f"torch and {name}"] - times["torch"])
            rows.append(row(f"{name} beyond torch/seconds", more, "s", 0))
    lines = {r.name.removesuffix("/seconds"): r.name.removesuffix("/seconds") for r in rows}
    return Report(rows, {"startup": Table(lines, {"seconds": "s"}, "a new process")})
