"""A progress bar for machines without tqdm: one line every ten seconds, with the time that is left."""

import time
from collections.abc import Iterable


class PlainBar:
    """The part of tqdm that the trainer uses."""

    def __init__(
        self, loop: Iterable = (), total: int | None = None, desc: str = "", unit: str = "", every: float = 10
    ):
        self.loop, self.total, self.desc, self.every = loop, total or len(loop), desc, every
        self.n, self.first, self.note = 0, 0, ""
        self.start = self.shown = time.perf_counter()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.show()

    def __iter__(self):
        for item in self.loop:
            yield item
            self.update(1)
        self.show()

    def update(self, count: int) -> None:
        if self.n == 0 and count > 1:  # a resumed run: its earlier steps took none of this time
            self.first = count - 1
        self.n += count
        if time.perf_counter() - self.shown > self.every:
            self.show()

    def set_postfix(self, refresh: bool = True, **values: str) -> None:
        self.note = " ".join(f"{name}={value}" for name, value in values.items())

    def show(self) -> None:
        self.shown = time.perf_counter()
        each = (self.shown - self.start) / max(1, self.n - self.first)
        print(f"{self.desc} {self.n}/{self.total}, {each * (self.total - self.n):.0f} s left {self.note}", flush=True)
