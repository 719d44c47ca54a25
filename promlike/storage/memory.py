"""Memory that the standard ways handle badly: arrays that grow without being copied, and what large answers leave behind."""

import asyncio
import ctypes
import mmap
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

_MADV_DONTNEED = getattr(mmap, "MADV_DONTNEED", 4)
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python names the Linux flag only since 3.13.

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From malloc.h."""
_KEPT_UP_TO = 32 << 20
"""What glibc comes to by itself, and its largest."""
_GIVEN_BACK_FROM = 1 << 20


def reserve(shape: tuple[int, ...], dtype: DTypeLike, *, huge_pages: bool = False) -> NDArray[np.generic]:
    """A zeroed array of this shape that costs memory only where it is written.

    Readers in other threads keep using it while it fills, which an array that is replaced by a larger copy would not allow.
    """
    kind = np.dtype(dtype)
    size = max(kind.itemsize * int(np.prod(shape, dtype=np.int64)), mmap.PAGESIZE)
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    if huge_pages and hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(area, kind, int(np.prod(shape, dtype=np.int64))).reshape(shape)


def share_heaps() -> None:
    """Have all threads of the process use two heaps of the C library, where it can, instead of one each: what one thread freed is used by
    another, and not kept beside it. To be called before there are many threads.
    """
    _mallopt(_M_ARENA_MAX, 2)


def keep_freed(keep: bool) -> None:
    """Keep large blocks that are freed for those to come, which saves zeroing their pages again; or give each back to the system at once.

    Kept blocks of changing sizes cannot all be used again: with much coming and going they take more memory than what is in use.
    """
    _mallopt(_M_MMAP_THRESHOLD, _KEPT_UP_TO if keep else _GIVEN_BACK_FROM)
    _mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_UP_TO if keep else _GIVEN_BACK_FROM)


def _mallopt(option: int, value: int) -> None:
    """Set an option of glibc's allocator; other C libraries have none."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)


def release_freed() -> None:
    """Give memory that was freed back to the system, where the C library can: glibc keeps tens of megabytes after large answers."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def release_code(library: str) -> int:
    """Let go of the pages that hold the machine code of a loaded library, by a part of its path; return how many bytes were mapped.

    They come back from its file when they are run. Only executable pages: others may hold relocations, which no file has.
    """
    released = 0
    maps = Path("/proc/self/maps")
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is None or not maps.exists():
        return 0
    for line in maps.read_text().splitlines():
        area, permissions, *_, name = line.split(maxsplit=5)
        if permissions == "r-xp" and library in name:
            start, end = (int(text, 16) for text in area.split("-"))
            if madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), ctypes.c_int(_MADV_DONTNEED)) == 0:
                released += end - start
    return released


def resident_bytes() -> int:
    """What the process holds in memory now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except FileNotFoundError:
        return 0


async def keep_trimmed(*, every_s: float = 2.0, growth_bytes: int = 32 << 20) -> None:
    """Until cancelled: whenever the process grew by so much, give back what of it was freed again.

    At once would be too often: an answer's arrays are mostly the next one's, and pages that are given back have to be zeroed again.
    """
    least = resident_bytes()
    while True:
        await asyncio.sleep(every_s)
        now = resident_bytes()
        if now > least + growth_bytes:
            await asyncio.to_thread(release_freed)
            least = resident_bytes()
        least = min(least, now) if now else least
