"""Memory that tensors give back stays with the process, for the next step of the same loop.

The GNU C library asks the system for every large tensor anew and gives it back at once; the system clears each page of it. A
training step makes and drops a gigabyte in that way, which takes a tenth of its time.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # names of settings in malloc.h
ALL, MEBIBYTE = 2**31 - 1, 2**20
KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: ALL}
USUAL = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * MEBIBYTE, TRIM_THRESHOLD: 64 * MEBIBYTE}  # where it ends up by itself


@contextmanager
def kept_memory() -> Iterator[None]:
    """While inside, nothing is given back to the system. Elsewhere than with the GNU C library this does nothing."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    settle(library, KEEP)
    try:
        yield
    finally:
        settle(library, USUAL)
        library.malloc_trim(0)


def settle(library: ctypes.CDLL, settings: dict[int, int]) -> None:
    for name, value in settings.items():
        library.mallopt(name, value)
