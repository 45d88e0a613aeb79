"""What the machine can do: matrix products, copies, the least that an operation costs; and how near the network gets.

Shares are of the largest rate of matrix products in float32; on a GPU the fast path's are of that in bfloat16, while whole
pictures are sampled.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from benchmarks import clock, peers
from benchmarks.calls import CONFIGS, call
from minidiff import zoo
from minidiff.evaluation.intervals import Estimate
from minidiff.evaluation.results import Row, Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion

QUICK = {"sizes": (64, 128), "batches": (1, 2), "budget": 0.3, "mebibytes": 1}


def measure(
    name: str = "critters-cat",
    sizes: Sequence[int] = (128, 256, 512, 1024, 2048),
    batches: Sequence[int] = (1, 4, 16, 64, 256),
    mebibytes: int = 256,
    budget: float = 10.0,
    load: Callable = zoo.load,
) -> Report:
    device = clock.best_device()
    model = load(name, device=device)
    dtypes = {"float32": torch.float32} | ({"bfloat16": torch.bfloat16} if device == "cuda" else {})
    rows, best = [], {}
    for kind, dtype in dtypes.items():
        rates = {size: matmul_rate(size, dtype, device, budget / len(sizes)) for size in sizes}
        rows += [row(f"matmul/{size}/{kind}", clock.median(rate), "GFLOP/s", 0) for size, rate in rates.items()]
        best[kind] = max(clock.median(rate).value for rate in rates.values())
    rows += other_rates(mebibytes, device, budget)

    channels, side = model.latent_shape[:2]
    work = peers.flops(peers.copy_of(model.denoiser.net).cpu(), channels, side) / 1e9
    for batch in batches:
        for way in CONFIGS if device == "cpu" else ("plain",):
            times = clock.seconds({way: call(model, way, batch)}, budget=budget)[way]
            rate = clock.median(batch * work / times)
            rows.append(row(f"call/batch {batch}/{way}", clock.median(1e3 * times / batch), "ms", 0))
            rows.append(row(f"share/batch {batch}/{way}", rate.value / best["float32"], "share", 0, rate.n))
        if device == "cuda":  # where fast is one graph from seeds to pictures
            rate = sampled(model, batch, work, budget)
            rows.append(row(f"share/batch {batch}/fast", rate.value / best["bfloat16"], "share", 0, rate.n))
    return Report(rows, tables(sizes, batches, dtypes))


def sampled(model: LatentDiffusion, batch: int, work: float, budget: float) -> Estimate:
    """10^9 operations a second of the network's calls, of `work` each, while pictures are sampled by the fast path."""
    times = clock.seconds({"fast": lambda: model.sample(batch, batch=batch, fast=True)}, budget=budget)["fast"]
    return clock.median(batch * model.calls * work / times)


def matmul_rate(size: int, dtype: torch.dtype, device: str, budget: float) -> Tensor:
    """GFLOP/s of square matrix products, in every round."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    repeats = max(1, 2**31 // (2 * size**3))  # about two GFLOP at a time

    def products() -> None:
        for _ in range(repeats):
            a @ b

    return repeats * 2 * size**3 / 1e9 / clock.seconds({"matmul": products}, budget=budget)["matmul"]


def other_rates(mebibytes: int, device: str, budget: float) -> list[Row]:
    """GB/s of a copy (read and written bytes counted), and microseconds of an operation on next to nothing."""
    a, small = torch.ones(mebibytes * 2**18, device=device), torch.ones(8, device=device)
    b = torch.empty_like(a)

    def tiny() -> None:
        for _ in range(1000):
            small.add_(1)

    times = clock.seconds({"copy": lambda: b.copy_(a), "tiny": tiny}, budget=budget)
    return [
        row("other/copy", clock.median(8 * a.numel() / 1e9 / times["copy"]), "GB/s", 0),
        row("other/operation", clock.median(1e3 * times["tiny"]), "us", 0),
    ]


def tables(sizes: Sequence[int], batches: Sequence[int], dtypes: Iterable[str]) -> dict[str, Table]:
    rates = {kind: f"GFLOP/s in {kind}" for kind in dtypes}
    other = {"copy": "copying, GB/s", "operation": "the smallest operation, us"}
    return {
        "other": Table({"other": "this machine"}, other),
        "matmul": Table({f"matmul/{n}": f"{n} x {n}" for n in sizes}, rates, "matrix product"),
        "call": Table({f"call/batch {n}": str(n) for n in batches}, CONFIGS, "batch: ms per item and call"),
        "share": Table({f"share/batch {n}": str(n) for n in batches}, CONFIGS, "batch: share of the matmul rate"),
    }
