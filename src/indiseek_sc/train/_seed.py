"""Random numbers that do not depend on the rest of the program."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def isolated_seed(seed: int) -> Iterator[None]:
    """Seed torch on all devices within the block, and put its state back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
