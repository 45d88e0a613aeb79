"""The first thing a visitor types: `minidiff tour`, from the shell to the finished page."""

import subprocess
import sys
import tempfile
import time

from minidiff.evaluation.results import Table, row
from minidiff.evaluation.studies.report import Report


def measure() -> Report:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "minidiff.cli", "tour", "--out", folder]
        subprocess.run(command, check=True, capture_output=True)
        seconds = row("tour/seconds", time.perf_counter() - start, "s", 0)
    return Report([seconds], {"tour": Table({"tour": "minidiff tour"}, {"seconds": "seconds"})})
