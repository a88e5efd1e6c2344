"""Memory: malloc settings (glibc's mallopt) that keep what tensors have freed, and how libraries say "out of memory"."""

from __future__ import annotations

import ctypes
import os

KEEP_BYTES = 2**30  # bytes of freed memory at the end of the heap; what goes beyond is handed back to the system
GROW_BYTES = 2**26  # bytes by which the heap grows; a thread's own heap is at most as large, so none is given up
ARENA_MAX, MMAP_MAX, TOP_PAD, TRIM_THRESHOLD = -8, -4, -2, -1  # mallopt's numbers, malloc.h
# How torch's allocators (CPU, CUDA, MPS), the CUDA libraries, C++ and the operating system say it.
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "unable to allocate",
    "failed to allocate",
    "std::bad_alloc",
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether main or device memory ran out; MemoryError, or a RuntimeError or OSError whose words say so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    words = str(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and any(sign in words for sign in OUT_OF_MEMORY)


def keep_freed_memory() -> bool:
    """Have this process keep freed memory for the next tensors, where glibc would hand back what is large and ask again.

    Each pass through a network would otherwise get its large tensors as fresh pages, which the system maps and clears one
    by one. The price: the peak may lie somewhat higher, and what goes back while nothing computes is what exceeds 1 GiB.
    In a thread begun before the call, tensors of 64 MiB and more still come fresh.
    Returns whether it took effect: glibc only (Linux), and not where MALLOC_... or GLIBC_TUNABLES in the environment say
    how memory is to be kept. Source: mallopt(3).
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    asked = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TOP_PAD, GROW_BYTES), (TRIM_THRESHOLD, KEEP_BYTES))
    return all(mallopt(what, value) == 1 for what, value in asked)
