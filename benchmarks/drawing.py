"""How many Critters are drawn in a second: a course draws its data instead of shipping it."""

from torch.utils.benchmark import Timer

from minidiff.data.critters import Critters
from minidiff.evaluation.results import Row, row

CHUNKS = (1, 64, 500)  # pictures drawn at once
SIZES = (32, 64, 128)


def measure() -> list[Row]:
    rows = []
    for size in SIZES:
        critters = Critters("all", seed=0, size=size)
        for chunk in CHUNKS:
            draw = Timer("critters[:chunk]", globals={"critters": critters, "chunk": chunk}, num_threads=threads())
            seconds = draw.blocked_autorange(min_run_time=3).median
            rows.append(row(f"critters/size {size}/chunk {chunk}/rate", chunk / seconds, "pictures/s", 0, chunk))
    return rows


def threads() -> int:
    """torch's own choice; the Timer would use one."""
    import torch

    return torch.get_num_threads()
