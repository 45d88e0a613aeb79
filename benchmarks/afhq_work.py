"""What training on AFHQ would take on GPUs that nobody has measured: an estimate, from operations and bytes that are counted.

The recipe's networks run on the device "meta", where tensors have shapes and no content, so that every multiplication of a
layer and every byte that an operation reads and writes can be counted, in float32. Seconds are the first over a card's
published rate of arithmetic in half precision, plus the second over its published bandwidth, divided by the share of both that
programs reach: two thirds where kernels are good and large, one third where shapes are small and nobody has tuned them.
`python -m benchmarks.afhq_costs` measures where there is a GPU.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers
from benchmarks.afhq_costs import PHOTOGRAPHS, stable_diffusion
from minidiff.evaluation.results import Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.ledger import Ledger
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.training.afhq import AFHQ, SIZE

QUICK = {"batches": (4,)}
SHARES = {"two thirds": 2 / 3, "one third": 1 / 3}  # of both published rates, which programs reach


class Gpu(NamedTuple):
    """What its maker publishes: 10^12 dense operations a second in half precision, summed in float32; GB a second; GB."""

    rate: float
    bandwidth: float
    memory: float


GPUS = {
    "T4 (float16)": Gpu(65, 320, 16),
    "L4": Gpu(121, 300, 24),
    "RTX 3090": Gpu(71, 936, 24),
    "RTX 4090": Gpu(165, 1008, 24),
    "A100 80 GB": Gpu(312, 2039, 80),
    "H100 SXM": Gpu(989, 3350, 80),
}


class Work(NamedTuple):
    """Floating point operations, bytes read and written, the most bytes that were alive at one time."""

    operations: int
    moved: int
    peak: int

    def seconds(self, gpu: Gpu, share: float) -> float:
        return (self.operations / (1e12 * gpu.rate) + self.moved / (1e9 * gpu.bandwidth)) / share


def measure(batches: Sequence[int] = (4, 16, 64), config: UNetConfig = AFHQ[0].config) -> Report:
    """Rows of a step and of encoding a picture, and of one of the three models on each card, by the largest batch."""
    with torch.device("meta"):
        network, autoencoder = UNet(config), stable_diffusion()
    picture = torch.empty(1, 3, SIZE, SIZE, device="meta")
    with torch.no_grad():
        encoding = counted(lambda: autoencoder.posterior(picture))
    rows = [row("encode/operations", encoding.operations / 1e9, "GFLOP", 0)]
    rows.append(row("encode/moved", encoding.moved / 1e9, "GB", 0))
    rows.append(row("encode/memory", (4 * peers.parameters(autoencoder) + encoding.peak) / 2**30, "GiB", 0))
    kept = 4 * 4 * peers.parameters(network)  # with their average and Adam's two moments
    for batch in batches:
        work = counted(learning(network, (batch, *autoencoder.latent_shape((3, SIZE, SIZE)))))
        rows.append(row(f"step/{batch}/operations", work.operations / 1e9, "GFLOP", 0))
        rows.append(row(f"step/{batch}/moved", work.moved / 1e9, "GB", 0))
        rows.append(row(f"step/{batch}/memory", (kept + work.peak) / 2**30, "GiB", 0))
    steps = AFHQ[0].steps * AFHQ[0].batch / batch
    for name, gpu in GPUS.items():
        rows += [row(f"on/{name}/{what}", value, "", 0) for what, value in gpu._asdict().items()]
        for which, share in SHARES.items():
            seconds = steps * work.seconds(gpu, share) + 2 * PHOTOGRAPHS * encoding.seconds(gpu, share)
            rows.append(row(f"on/{name}/{which}", seconds / 3600, "h", 0))
            reached = work.operations / (1e12 * gpu.rate) / work.seconds(gpu, share)
            rows.append(row(f"on/{name}/{which} arithmetic", reached, "share", 0))
    return Report(rows, tables(batches))


def learning(network: UNet, shape: Sequence[int]) -> Callable[[], None]:
    """A step but for the optimizer: forward and backward on latents of this shape (B, C, H, W)."""
    network.zero_grad()
    device = next(network.parameters()).device
    x, t = torch.zeros(shape, device=device), torch.zeros(shape[0], device=device)
    return lambda: network(x, t).square().mean().backward()


def counted(run: Callable[[], Any]) -> Work:
    """What it costs to run this once; two operations for each multiplication of a layer."""
    with FlopCounterMode(display=False) as counter, Ledger() as ledger:
        run()
    return Work(counter.get_total_flops(), ledger.moved, ledger.peak)


def tables(batches: Sequence[int]) -> dict[str, Table]:
    work = {"operations": "GFLOP", "moved": "GB read and written", "memory": "GiB held"}
    lines = {f"step/{batch}": f"a step of {batch} pictures" for batch in batches}
    card = {"rate": "TFLOP/s", "bandwidth": "GB/s", "memory": "GB"}
    card |= {which: f"hours, at {which} of both rates" for which in SHARES}
    return {
        "work": Table(lines | {"encode": "encoding one picture"}, work, "counted, in float32"),
        "hours": Table({f"on/{name}": name for name in GPUS}, card, "estimated"),
    }
