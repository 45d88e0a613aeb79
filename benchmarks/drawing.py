"""How many Critters are drawn in a second: a course draws its data instead of shipping it."""

import torch
from torch.utils.benchmark import Timer

from minidiff.data.critters import Critters
from minidiff.evaluation.results import Table, row
from minidiff.evaluation.studies.report import Report

CHUNKS = (1, 64, 500)  # pictures drawn at once
SIZES = (32, 64, 128)
SECONDS = 1.0  # of each


def measure() -> Report:
    rows, threads = [], torch.get_num_threads()  # the Timer's own choice is one
    for size in SIZES:
        critters = Critters("all", seed=0, size=size)
        for chunk in CHUNKS:
            draw = Timer("critters[:chunk]", globals={"critters": critters, "chunk": chunk}, num_threads=threads)
            seconds = draw.blocked_autorange(min_run_time=SECONDS).median
            rows.append(row(f"critters/size {size}/chunk {chunk}/rate", chunk / seconds, "pictures/s", 0, chunk))
    lines = {f"critters/size {size}/chunk {chunk}": f"{size}, {chunk}" for size in SIZES for chunk in CHUNKS}
    return Report(rows, {"drawing": Table(lines, {"rate": "pictures a second"}, "side, drawn at once")})
