"""What the machine can do: matrix products, copies, the least that an operation costs; and how near the network gets."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks import clock, peers
from benchmarks.calls import CONFIGS, call
from minidiff import zoo
from minidiff.evaluation.results import Row, Table, row
from minidiff.evaluation.studies.report import Report

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
    return Report(rows, tables(sizes, batches))


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
        row("copy/large", clock.median(8 * a.numel() / 1e9 / times["copy"]), "GB/s", 0),
        row("operation/tiny", clock.median(1e3 * times["tiny"]), "us", 0),
    ]


def tables(sizes: Sequence[int], batches: Sequence[int]) -> dict[str, Table]:
    return {
        "matmul": Table({f"matmul/{n}": f"{n} x {n}" for n in sizes}, {"float32": "GFLOP/s"}, "matrix product"),
        "call": Table({f"call/batch {n}": str(n) for n in batches}, CONFIGS, "batch: ms per item and call"),
        "share": Table({f"share/batch {n}": str(n) for n in batches}, CONFIGS, "batch: share of the matmul rate"),
    }
