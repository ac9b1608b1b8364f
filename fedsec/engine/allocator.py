"""How a process's memory allocator is set for training on a CPU."""

import ctypes
import os


def tune_allocator() -> None:
    """Keep freed memory in the process instead of giving it back to Linux after every step.

    Training allocates and frees the same large activations each step; glibc would unmap and fault them
    in again every time, which costs a fifth of a vectorized step. No effect elsewhere than on glibc.
    """
    if os.name != "posix":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
        mallopt(m_mmap_threshold, 32 * 2**20)
        mallopt(m_trim_threshold, 2**30)
        mallopt(m_top_pad, 64 * 2**20)
