"""Which pages of a file are in memory, by mincore(2)."""

import ctypes
import mmap
import os
from contextlib import contextmanager

import numpy as np

LIBC = ctypes.CDLL(None, use_errno=True)


def resident_pages(path):
    """A bool for every page."""
    size = os.path.getsize(path)
    pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as view:
        with address(view) as start:
            done = LIBC.mincore(
                ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_void_p(pages.ctypes.data)
            )
        assert done == 0, os.strerror(ctypes.get_errno())
    return pages & 1 == 1


@contextmanager
def address(view):
    array = np.frombuffer(view, np.uint8)
    yield array.ctypes.data
    del array  # or the mapping could not be closed


def share(path):
    return float(resident_pages(path).mean())
