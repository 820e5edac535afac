"""Memory of a process that trains many times: reused from training to training, handed back where it has grown."""

import atexit
import ctypes
import functools
import gc
import platform
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # numbers of glibc's malloc.h, see mallopt(3)
_ONE_GB = 1 << 30
ENVIRONMENT = {  # of a process that trains, before it starts
    # Tune gives each trial a thread, and glibc each thread an arena of its own, which takes memory in pieces of 64 MB and
    # gives each back at once: 30,000 page faults an epoch of EfficientNet-B0 at 64 px
    "MALLOC_ARENA_MAX": "1",
}
GROWTH = 1.2  # of the memory since it was handed back last


@functools.cache
def set_up_memory() -> None:
    """Once per process: freed pages are reused, and what the imports left is exempt from garbage collection.

    By default glibc fetches every large activation afresh from the system and gives it back at once: a step at 224 px
    pays some 500,000 page faults, a third of its time. Collecting the 390,000 objects of torch and timm takes 200 ms.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _ONE_GB)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _ONE_GB - 1)
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or bindings complain of leaks at exit


def release_memory() -> None:
    """Between two trainings: hands freed memory back to the system where it has grown by a fifth, or a process of many
    trainings would grow by hundreds of MB. The next training fetches every page of it anew, so it is not done each time.
    """
    gc.collect()
    if (libc := _glibc()) is None:
        return
    if not _KEPT:
        _KEPT.append(_resident_pages())
    elif _resident_pages() > GROWTH * _KEPT[0]:
        libc.malloc_trim(0)
        _KEPT.clear()


_KEPT: list[int] = []  # pages of this process after the first training since they were handed back


def _resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
