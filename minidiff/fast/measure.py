"""Which form of a network is the fastest here, on how many items at once, with how many threads? Measured, and kept.

The first fast call for a network takes a second or two for this; what it finds is kept in a small JSON file in the user's
cache folder, one entry for each processor, number of threads, version of torch and network. Without the file, or where it
cannot be written, everything works: it is measured once in each process. `forget` throws it away.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from minidiff.files import write_whole
from minidiff.machine import processor

SIZES = (1, 4, 16, 64)  # items at once that are tried
SECONDS = 4.0  # when so many are over, no further size is begun
REPEATS = 4
SLOW = 1.5  # times the best: a form that is slower on few items has no chance on more

Ask = Callable[[int], Any]  # asks one form of a network for so many items


class Timing(NamedTuple):
    """Seconds per item of a form of a network, asked for `size` items at once by each of so many workers, with so many
    threads each."""

    size: int
    form: str
    workers: int
    threads: int
    seconds: float


class Plan(NamedTuple):
    """The form to take, how many items at once, threads (None: as they are), and how many such groups side by side.

    Two groups of items share no step, so cores with a group each never wait for each other as they do within an operation.
    """

    form: str
    rows: int
    threads: int | None
    workers: int = 1


known: dict[str, list[Timing]] = {}


def plan(name: str, forms: dict[str, Ask], count: int) -> Plan:
    """The fastest way to ask a network for `count` items. `name` says which network; its forms are called to find out."""
    timings = known.get(key_of(name)) or kept(name)
    if not {timing.form for timing in timings} & set(forms):
        timings = measured(forms)
        keep(name, timings)
    known[key_of(name)] = timings
    tried = [timing for timing in timings if timing.size * timing.workers <= count and timing.form in forms]
    best = min(tried, key=lambda timing: timing.seconds)
    return Plan(best.form, rows(best, count), best.threads, best.workers)


def rows(best: Timing, count: int) -> int:
    """How many of `count` items at once: about as many as were the fastest, and equally many for each worker."""
    if best.workers == 1 and count < 4 * best.size:
        return count  # of two or three batches the last, half empty, costs more than it saves
    if best.workers == 1:
        return best.size
    rounds = -(-count // (best.size * best.workers))
    return -(-count // (rounds * best.workers))


def measured(forms: dict[str, Ask]) -> list[Timing]:
    """Every form at every size, as far as the time goes, but for those that were slow on fewer items; and the best one of each
    size with half of the threads, or with its items shared out to as many workers as there are threads."""
    found, start, cores = [], time.perf_counter(), torch.get_num_threads()
    for size in SIZES:
        if found and time.perf_counter() - start > SECONDS:
            break
        now = [Timing(size, form, 1, cores, seconds / size) for form, seconds in clock(forms, size).items()]
        best = min(now, key=lambda timing: timing.seconds)
        if size > 1:  # one item alone is a case of its own
            forms = {timing.form: forms[timing.form] for timing in now if timing.seconds < SLOW * best.seconds}
        if cores > 1:
            now.append(shared_out(best, forms[best.form], cores))
        found += now
    return found


def shared_out(best: Timing, ask: Ask, cores: int) -> Timing:
    """Fewer threads for one operation: a worker on each core, or half of the threads where there are too few items."""
    if best.size < cores:
        part, workers, each_threads = best.size, 1, cores // 2
    else:
        part, workers, each_threads = best.size // cores, cores, 1
    with side_by_side(workers, each_threads) as each:
        seconds = clock({"shared out": lambda part: list(each(ask, [part] * workers))}, part)["shared out"]
    return Timing(part, best.form, workers, each_threads, seconds / (part * workers))


def clock(asks: dict[str, Ask], size: int) -> dict[str, float]:
    """Seconds of a call, the best of a few after one to warm up. They take turns, so that what disturbs one disturbs all."""
    best = dict.fromkeys(asks, float("inf"))
    for repeat in range(REPEATS + 1):
        for name, ask in asks.items():
            start = time.perf_counter()
            ask(size)
            if repeat:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads for torch while inside; None leaves them as they are."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def side_by_side(workers: int, count: int | None) -> Iterator[Callable[..., Iterator]]:
    """A `map` whose calls are made by so many workers at a time, each with `count` threads for torch and no gradients."""
    with threads(count):
        if workers == 1:
            yield map
            return
        pool = ThreadPoolExecutor(workers, initializer=begin, initargs=(torch.get_num_threads(),))
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)


def begin(count: int) -> None:
    """What is each thread's own: how many threads torch has, and whether there are gradients."""
    torch.set_num_threads(count)
    torch.set_grad_enabled(False)


def key_of(name: str) -> str:
    """A network on this machine: timings of another processor, thread count or torch say nothing here."""
    return f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {name}"


def file() -> Path:
    """$XDG_CACHE_HOME/minidiff/fast.json, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minidiff" / "fast.json"


def kept(name: str) -> list[Timing]:
    """The timings in the file; none when there is no file, or it is no longer what was written."""
    try:
        return [Timing(*row) for row in json.loads(file().read_text(encoding="utf-8"))[key_of(name)]]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return []


def keep(name: str, timings: list[Timing]) -> None:
    """Add to the file, if it can be written."""
    try:
        everything = dict(json.loads(file().read_text(encoding="utf-8")))
    except (OSError, RuntimeError, ValueError, TypeError):
        everything = {}
    try:
        write_whole(file(), json.dumps({**everything, key_of(name): timings}, indent=1))
    except (OSError, RuntimeError):
        pass  # a read-only home, or none: it is measured again next time


def forget() -> None:
    """Throw away what was measured: after a change of the machine, or when it was busy the first time."""
    known.clear()
    file().unlink(missing_ok=True)
