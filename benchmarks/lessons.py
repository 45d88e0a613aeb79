"""What a student waits for: every lesson from its first cell to its last, each in a new kernel."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minidiff.evaluation.results import Table, row
from minidiff.evaluation.studies.report import Report

LESSONS = Path(__file__).parents[1] / "lessons"


def measure() -> Report:
    rows, paths = [], sorted(LESSONS.glob("*.py"))
    for path in paths:
        seconds, gib = run(path)
        rows += [row(f"{path.stem}/seconds", seconds, "s", 0), row(f"{path.stem}/memory", gib, "GiB", 0)]
    columns = {"seconds": "seconds", "memory": "GiB"}
    return Report(rows, {"lessons": Table({path.stem: path.stem for path in paths}, columns, "lesson")})


def run(path: Path) -> tuple[float, float]:
    """Seconds of wall clock (starting the kernel included) and the largest resident memory in GiB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jupytext", "--to", "notebook", "--execute", "--output", f"{folder}/out.ipynb"]
        start = time.perf_counter()
        process = subprocess.Popen([*command, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)  # the kernel is the process's child and counted with it
        seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{path.name} failed:\n{errors[-2000:]}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30
