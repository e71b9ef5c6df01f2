"""Neighbours, clusters and UMAPs of the representations, in a process of its own that is ready by the time the representations are."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from anndata import AnnData

CLUSTERS = "leiden"

LATENT_UMAP_EPOCHS = 200
"""The maps of single representations are for a look; that of the joint representation has scanpy's own number."""

FEWEST_CELLS = 50
"""Cells to warm up with."""


class MapMaker:
    """Makes maps of cells beside what else is done, in a context that ends it.

    Importing and compiling UMAP takes as long as five maps of a few thousand cells. A process of its own does so while the model is trained,
    which keeps one core busy, and makes the maps while the representations are audited.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the threads of torch
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> MapMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # of no effect where the maps were made
        self._process.join()
        self._connection.close()

    def begin(self, cells: AnnData, joint: str, single: Sequence[str], seed: int) -> None:
        """Begin to map representations, which are in ``cells.obsm``: see :func:`map_latents`."""
        # The process may have ended; what ended it is raised when the maps are asked for.
        with suppress(ConnectionError):
            self._connection.send((cells, joint, tuple(single), seed))

    def finish(self) -> AnnData:
        """Wait for the maps, and return the cells with them.

        Raises
        ------
        RuntimeError
            If the process has ended, such as for want of memory.
        """
        try:
            made, warned = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            raise RuntimeError(
                f"Neighbours and UMAPs: their process ended with code {self._process.exitcode}. Is there enough memory?"
            ) from error
        self._process.join()
        for message, category in warned:
            warnings.warn(message, category, stacklevel=2)
        if isinstance(made, Exception):
            raise made
        return made


def _serve(connection: Connection) -> None:
    """Warm up, make the maps that are asked for, and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked is interrupted too, and ends this process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _warm_up()
    made: Any
    with warnings.catch_warnings(record=True) as caught:
        try:
            made = map_latents(*connection.recv())
        except EOFError:  # nobody is there any more
            return
        except Exception as error:  # noqa: BLE001 (raised in the main process)
            made = error
    connection.send((made, [(str(warning.message), warning.category) for warning in caught]))


def _warm_up() -> None:
    """Import all libraries and compile their functions."""
    import numpy as np
    from anndata import AnnData

    latent = np.random.default_rng(0).normal(size=(FEWEST_CELLS, 3)).astype(np.float32)
    map_latents(AnnData(obsm={"latent": latent}), "latent", (), seed=0, n_epochs=1)


def map_latents(cells: AnnData, joint: str, single: Sequence[str], seed: int, n_epochs: int | None = None) -> AnnData:
    """Find neighbours, clusters and a UMAP of the joint representation, and a UMAP of each single representation; the graphs behind those are not kept.

    Parameters
    ----------
    cells
        With representations in ``obsm``; what scanpy makes of the joint representation is added under scanpy's names, and ``<key>_umap`` for the others.
    joint
        Key of the joint representation.
    single
        Keys of the others.
    seed
        Decides clusters and maps.
    n_epochs
        Of the map of the joint representation; as many as scanpy thinks right if not given.
    """
    import scanpy as sc
    from anndata import AnnData

    sc.pp.neighbors(cells, use_rep=joint, random_state=seed)
    sc.tl.leiden(cells, flavor="igraph", n_iterations=2, directed=False, key_added=CLUSTERS, random_state=seed)
    sc.tl.umap(cells, maxiter=n_epochs, random_state=seed)
    for key in single:
        one = AnnData(obs=cells.obs[[]], obsm={key: cells.obsm[key]})
        sc.pp.neighbors(one, use_rep=key, random_state=seed)
        sc.tl.umap(one, maxiter=LATENT_UMAP_EPOCHS, random_state=seed)
        cells.obsm[f"{key}_umap"] = one.obsm["X_umap"]
    return cells
