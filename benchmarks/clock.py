"""How long things take, side by side: in turns, so that what disturbs the machine disturbs them all; the median counts."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minidiff.evaluation.intervals import Estimate

ENOUGH = 6  # rounds from which the smallest and the largest bracket the true median with more than 95 %


def seconds(functions: dict[str, Callable[[], Any]], rounds: int = ENOUGH, budget: float = 30.0) -> dict[str, Tensor]:
    """Seconds of each function in every round, (rounds,) float64; a round runs them all, after one to warm up.

    When the first round took long there are fewer, but two, so that all together take about `budget` seconds.
    """
    first = sum(once(function) for function in functions.values())
    rounds = int(max(min(2, rounds), min(rounds, budget / first - 1)))
    found = [[once(function) for function in functions.values()] for _ in range(rounds)]
    return dict(zip(functions, torch.tensor(found, dtype=torch.float64).unbind(1), strict=True))


def once(function: Callable[[], Any]) -> float:
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def wait() -> None:
    """Until a GPU, if there is one, has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def median(values: Tensor) -> Estimate:
    """The median of (n,) values, with the smallest and the largest as its interval where there are `ENOUGH`."""
    values = values.double()
    interval = (values.min().item(), values.max().item()) if len(values) >= ENOUGH else None
    return Estimate(values.quantile(0.5).item(), interval, len(values))


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
