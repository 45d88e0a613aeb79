"""Several processes at one piece of work, as `accelerate launch` starts them; in one alone nothing here does anything.

Process r of n takes items r, r + n, r + 2n, ...: each item once, whatever n is. The parts are put together in the order of
the items, so what is made of them does not depend on n. Every process must ask the same things in the same order.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def here() -> tuple[int, int]:
    """(number of this process, how many there are): (0, 1) unless `accelerate launch` or torchrun started several."""
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return 0, 1
    state = _state()
    return state.process_index, state.num_processes


def device() -> torch.device:
    """Where Accelerate computes in this process; the CPU where nothing has asked for it."""
    from accelerate.state import is_initialized

    return _state().device if here()[1] > 1 or is_initialized() else torch.device("cpu")


def share(count: int) -> range:
    """Which of `count` items are this process's own."""
    rank, ranks = here()
    return range(rank, count, ranks)


def joined(part: Tensor, count: int) -> Tensor:
    """One row for each of `count` items, from every process's rows for its own `share`; all processes get all rows."""
    if len(part) != len(share(count)):
        raise ValueError(f"part: expected a row for each of this process's {len(share(count))} items, got {len(part)}")
    if here()[1] == 1:
        return part
    from accelerate.utils import gather

    ranks = here()[1]
    longest = -(-count // ranks)
    padded = torch.cat([part, part.new_zeros(longest - len(part), *part.shape[1:])])
    rows = gather(padded.to(device())).to(part.device)  # (ranks * longest, ...), process after process
    return rows.unflatten(0, (ranks, longest)).transpose(0, 1).flatten(0, 1)[:count]  # item after item


def shared(make: Callable[[Tensor], Tensor], count: int, batch: int = 64) -> Tensor:
    """make(indices (b,)) -> (b, ...) for all of `count` items, each made by one process; all get all, on the CPU.

    At most `batch` at once. A process without an item of its own makes the first one for its shape, and drops it.
    """
    own = share(count)
    parts = torch.tensor(own or range(1)).split(batch)
    return joined(torch.cat([make(part).cpu() for part in parts])[: len(own)], count)


def summed(number: float) -> float:
    """The sum over all processes."""
    if here()[1] == 1:
        return number
    from accelerate.utils import reduce

    return reduce(torch.tensor(float(number), dtype=torch.float64, device=device()), "sum").item()


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, in all of them; the others do not call it."""
    rank, ranks = here()
    if ranks == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([make() if rank == 0 else None])[0]


def bar(*loop: Any, **settings: Any) -> Any:
    """A progress bar of tqdm's, shown by the first process alone."""
    from tqdm.auto import tqdm

    return tqdm(*loop, disable=here()[0] > 0, **settings)


def _state() -> Any:
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available())
