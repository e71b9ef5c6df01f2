"""Sums that do not depend on the number of cores."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def single_thread() -> Iterator[None]:
    """Let torch use one thread on the CPU within the block.

    Sums then come out the same on every machine, and networks as small as ours are no slower: on a busy machine, several
    threads that wait for each other at every layer made training ten times slower.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
