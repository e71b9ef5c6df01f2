"""Lending a MuData to tools that write into it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData


@contextmanager
def unchanged(mdata: MuData) -> Iterator[None]:
    """Take back after the block what was written to ``obs``, ``obsm`` and ``uns`` in it, where all tools of the report write."""
    obs, obsm, uns = mdata.obs.copy(), dict(mdata.obsm), dict(mdata.uns)
    try:
        yield
    finally:
        mdata.obs, mdata.uns = obs, uns
        for key in set(mdata.obsm) - set(obsm):
            del mdata.obsm[key]
        for key, values in obsm.items():
            mdata.obsm[key] = values
