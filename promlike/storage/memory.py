"""Memory that the standard ways handle badly: arrays that grow without being copied, and what large answers leave behind."""

import ctypes
import mmap

import numpy as np
from numpy.typing import DTypeLike, NDArray

_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python names the Linux flag only since 3.13.


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


def release_freed() -> None:
    """Give memory that was freed back to the system, where the C library can: glibc keeps tens of megabytes after large answers."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
