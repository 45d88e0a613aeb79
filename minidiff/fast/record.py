"""On a GPU: the whole way from seeds to pictures recorded once as a CUDA graph in bfloat16, then replayed in one call.

A small network keeps a GPU waiting for Python: a step is a hundred kernels of a few microseconds each. In a graph the
GPU launches them itself, on buffers that stay where they are. Noise is made in the graph too, from each item's seed
(`minidiff.seeds`). NVIDIA, "CUDA C++ Programming Guide", section "CUDA Graphs".
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minidiff.conditioning import Condition
from minidiff.fast.denoisers import QuickDenoiser, QuickGuided, QuickPair
from minidiff.generators import LatentDiffusion

RECORDINGS = 8  # kept of one denoiser, each with buffers of its own
WARM_UP = 2  # runs before the recording, in which libraries choose their kernels
Told = QuickDenoiser | QuickGuided | QuickPair
ELSEWHERE = ("autoencoder", "denoiser", "text", "spacing")  # fields of a model that `settings` looks into itself


class HalfTold(NamedTuple):
    """A condition in the network's dtype, about R rows."""

    cond: dict[str, Tensor]
    rows: int


class HalfNetwork:
    """A copy of a network in bfloat16 and channels-last, called as `Quick` asks; float32 where there is no bfloat16."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        self.net = copy.deepcopy(net).to(dtype=dtype, memory_format=torch.channels_last).requires_grad_(False)
        self.dtype = dtype
        self.recordings: OrderedDict[Any, Recording] = OrderedDict()

    def tell(self, x: Tensor, condition: Condition) -> HalfTold:
        cond = {k: v.to(self.dtype) if v.is_floating_point() else v for k, v in condition.parts().items()}
        return HalfTold(cond, max(len(x), len(condition)))

    def __call__(self, x: Tensor, t: float, told: HalfTold) -> Tensor:
        rows = x if len(x) == told.rows else x.repeat(2, 1, 1, 1)
        rows = rows.to(self.dtype, memory_format=torch.channels_last)
        return self.net(rows, torch.full((told.rows,), t, device=x.device), **told.cond).to(x.dtype)


def half_dtype() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32


class Recording:
    """function(*inputs) -> tensor as a CUDA graph on buffers of its own; other inputs must have the same shapes."""

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor], weights: Any = None) -> None:
        self.inputs, self.weights = [part.clone() for part in inputs], weights  # whose memory the graph reads
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = function(*self.inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        for mine, theirs in zip(self.inputs, inputs, strict=True):
            mine.copy_(theirs, non_blocking=True)
        self.graph.replay()
        return self.output.clone()


class Recorder:
    """function(*models, *parts) for `rows` items by a recording: one for each setting and shape, the last few are kept.

    `function` is a partial of a function of the module, so that two of them can be told to be the same; fewer items than
    `rows` are filled up by repeating the last.
    """

    def __init__(self, function: partial, models: Sequence[LatentDiffusion], rows: int) -> None:
        self.function, self.rows, self.models = function, rows, len(models)
        self.each = [len(part) > 1 for model in models for part in told_to(model.denoiser)]  # or one row for all items

    @torch.no_grad()
    def __call__(self, *args: Any) -> Tensor:
        models, parts = args[: self.models], args[self.models :]
        told = [part for model in models for part in told_to(model.denoiser)]
        told = [full(part, self.rows) if each else part for part, each in zip(told, self.each, strict=True)]
        device, kept = models[0].device, network_of(models[0]).recordings
        inputs = [part.to(device) for part in (*(full(part, self.rows) for part in parts), *told)]
        key = (self.function.func, repr(self.function.keywords), *map(settings, models))
        key += tuple((tuple(part.shape), part.dtype) for part in inputs)
        with torch.cuda.device(device):
            if key not in kept:
                while len(kept) >= RECORDINGS:
                    kept.popitem(last=False)
                weights = [(network_of(model), model.autoencoder) for model in models]
                kept[key] = Recording(partial(self.run, models, len(parts)), inputs, weights)
            kept.move_to_end(key)
            return kept[key](inputs)[: len(parts[0])]

    def run(self, models: Sequence[LatentDiffusion], count: int, *inputs: Tensor) -> Tensor:
        """The function of the models, told what the recording's own buffers hold."""
        parts, told = inputs[:count], iter(inputs[count:])
        return self.function(*(model.replace(denoiser=telling(model.denoiser, told)) for model in models), *parts)


def settings(model: LatentDiffusion) -> tuple:
    """Everything that the recording of a model depends on, but for the inputs and their shapes."""
    values = [getattr(model, field.name) for field in fields(model) if field.name not in ELSEWHERE]
    denoiser, way = quick_of(model.denoiser), [type(model.denoiser)]
    for side in sides_of(model.denoiser):
        if isinstance(side, QuickGuided):
            way += side.guides, side.interval, side.scale.item() if side.scale.ndim == 0 else None
    places = [weight.data_ptr() for weight in (*model.autoencoder.parameters(), *model.autoencoder.buffers())]
    return type(model), *values, model.grid, id(denoiser.quick), denoiser.predicts, *places, *way


def sides_of(denoiser: Told) -> tuple[QuickDenoiser | QuickGuided, ...]:
    """Both of a pair; else the denoiser alone."""
    return (denoiser.source, denoiser.target) if isinstance(denoiser, QuickPair) else (denoiser,)


def quick_of(denoiser: Told) -> QuickDenoiser:
    side = sides_of(denoiser)[0]
    return side.denoiser if isinstance(side, QuickGuided) else side


def network_of(model: LatentDiffusion) -> HalfNetwork:
    return quick_of(model.denoiser).quick


def told_to(denoiser: Told) -> list[Tensor]:
    """The tensors of its conditions, and its scale where that is one for each item."""
    found = []
    for side in sides_of(denoiser):
        if isinstance(side, QuickGuided):
            found += [part for told in (side.given, side.null) if told for part in told.parts().values()]
            found += [side.scale] if side.scale.ndim else []
    return found


def telling(denoiser: Told, tensors: Iterator[Tensor]) -> Told:
    """The same denoiser told what these tensors say, in the order of `told_to`."""
    if isinstance(denoiser, QuickPair):
        return QuickPair(*(telling(side, tensors) for side in sides_of(denoiser)))
    if isinstance(denoiser, QuickDenoiser):
        return denoiser
    again = denoiser.rows(slice(None))
    for side in ("given", "null"):
        if old := getattr(denoiser, side):
            setattr(again, side, Condition(**{name: next(tensors) for name in old.parts()}))
    again.scale = next(tensors) if denoiser.scale.ndim else denoiser.scale
    return again


def full(part: Tensor, rows: int) -> Tensor:
    """(n, ...) -> (rows, ...), the last item again and again."""
    return part if len(part) == rows else torch.cat([part, part[-1:].expand(rows - len(part), *part.shape[1:])])
