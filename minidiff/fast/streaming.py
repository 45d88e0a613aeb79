"""Sets larger than the memory: worked off a batch at a time, while the results of the last one travel to the CPU."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def stream(function: Callable[..., Tensor], *parts: Any, batch: int = 64) -> Iterator[Tensor]:
    """function(*parts) of `batch` items after the other, on the CPU, in order: (batch, ...), at last what is left.

    Parts are tensors with one row for each item (in any memory: a memory-mapped set is read as it is needed) or models
    that were told something about each. Two batches of results are in memory at once, whatever the set's size:

        for images in stream(lambda seeds: model.sample(len(seeds), seeds, fast=True), torch.arange(50_000), batch=256):

    Raises ValueError for no tensor, tensors of different length, or a batch below 1.
    """
    counts = {len(part) for part in parts if torch.is_tensor(part)}
    if len(counts) != 1:
        raise ValueError(f"parts: expected tensors of one length, got {sorted(counts) or 'none'}")
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, got {batch}")
    return streaming(function, parts, counts.pop(), batch)


def streaming(function: Callable[..., Tensor], parts: tuple, count: int, batch: int) -> Iterator[Tensor]:
    travelling = None
    for start in range(0, count, batch):
        i = slice(start, start + batch)
        result = to_cpu(function(*(part[i] if torch.is_tensor(part) else part.rows(i) for part in parts)))
        if travelling is not None:
            yield travelling()
        travelling = result
    if travelling is not None:
        yield travelling()


def to_cpu(result: Tensor) -> Callable[[], Tensor]:
    """Send it on its way, and return what waits for it. From a GPU it goes on a stream of its own, beside the next batch."""
    if not result.is_cuda:
        return lambda: result
    ours, done = torch.empty(result.shape, dtype=result.dtype, pin_memory=True), torch.cuda.Event()
    beside = copy_stream(result.device)
    beside.wait_stream(torch.cuda.current_stream(result.device))
    with torch.cuda.stream(beside):
        ours.copy_(result, non_blocking=True)
        done.record(beside)
    result.record_stream(beside)  # its memory is not given away before it has left

    def arrived() -> Tensor:
        done.synchronize()
        return ours

    return arrived


streams: dict[torch.device, Any] = {}


def copy_stream(device: torch.device) -> Any:
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return streams[device]
