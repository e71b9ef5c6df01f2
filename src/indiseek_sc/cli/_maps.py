"""Neighbours, clusters and UMAPs of the representations, computed in a separate process."""

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
"""Column of ``obs`` with the clusters of the joint representation."""

LATENT_UMAP_EPOCHS = 200
"""Epochs of the UMAPs of single representations; the joint representation uses the default."""

FEWEST_CELLS = 50
"""Number of random cells with which UMAP is compiled in advance."""


class MapMaker:
    """Compute UMAPs in a process that ends with the context.

    Importing and compiling UMAP takes as long as five UMAPs of a few thousand cells. The separate
    process does this during the training, which uses one core, and computes the UMAPs during the
    audit.
    """

    def __init__(self) -> None:
        # Forking is unsafe with the threads of torch.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> MapMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # has no effect once the maps are complete
        self._process.join()
        self._connection.close()

    def begin(self, cells: AnnData, joint: str, single: Sequence[str], seed: int) -> None:
        """Start computing UMAPs of representations in ``cells.obsm``.

        Parameters
        ----------
        cells, joint, single, seed
            As in :func:`map_latents`.
        """
        # If the process has ended, finish raises the error.
        with suppress(ConnectionError):
            self._connection.send((cells, joint, tuple(single), seed))

    def finish(self) -> AnnData:
        """Wait for the UMAPs, and return the cells with them.

        Raises
        ------
        RuntimeError
            If the process has ended, for example for lack of memory.
        """
        try:
            made, warned = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            raise RuntimeError(
                f"The process that computes neighbours and UMAPs ended with code {self._process.exitcode}. Is there enough memory?"
            ) from error
        self._process.join()
        for message, category in warned:
            warnings.warn(message, category, stacklevel=2)
        if isinstance(made, Exception):
            raise made
        return made


def _serve(connection: Connection) -> None:
    """Warm up, compute the requested UMAPs, and return."""
    # Ctrl-C also reaches the main process, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _warm_up()
    made: Any
    with warnings.catch_warnings(record=True) as caught:
        try:
            made = map_latents(*connection.recv())
        except EOFError:  # the main process has closed the connection
            return
        except Exception as error:  # noqa: BLE001 (raised in the main process)
            made = error
    connection.send((made, [(str(warning.message), warning.category) for warning in caught]))


def _warm_up() -> None:
    """Import all packages and compile their functions."""
    import numpy as np
    from anndata import AnnData

    latent = np.random.default_rng(0).normal(size=(FEWEST_CELLS, 3)).astype(np.float32)
    map_latents(AnnData(obsm={"latent": latent}), "latent", (), seed=0, n_epochs=1)


def map_latents(cells: AnnData, joint: str, single: Sequence[str], seed: int, n_epochs: int | None = None) -> AnnData:
    """Compute neighbours, clusters and UMAPs of representations.

    Neighbours and clusters of the joint representation are kept; the neighbour graphs of single
    representations are not.

    Parameters
    ----------
    cells
        Cells with representations in ``obsm``. Results for the joint representation are added under
        scanpy's names, and UMAPs of the others as ``<key>_umap``.
    joint
        Key of the joint representation.
    single
        Keys of the other representations.
    seed
        Seed of clusters and UMAPs.
    n_epochs
        Epochs of the UMAP of the joint representation; scanpy's default if None.
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
