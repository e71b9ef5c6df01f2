"""Run jobs in parallel, those of one group sequentially in one process."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import chain
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _disentangle_runs import Job, Options

    Run = Callable[[Job, Options], Any]


def run_all(run: Run, groups: Sequence[Sequence[Job]], options: Options, n_jobs: int) -> Iterator[tuple[Job, Any]]:
    """Yield each job with its result, or an exception if it failed, in the order of completion.

    Jobs of a group share trained stages, so they run in one process, in their order.
    """
    if n_jobs > 1:
        yield from _run_in_processes(run, groups, options, n_jobs)
        return
    for job in chain.from_iterable(groups):
        try:
            yield job, run(job, options)
        except Exception as error:  # noqa: BLE001  # a run that fails must not end the others
            yield job, error


def _run_in_processes(
    run: Run, groups: Sequence[Sequence[Job]], options: Options, n_jobs: int
) -> Iterator[tuple[Job, Any]]:
    waiting = iter(groups)
    # Threads do not survive a fork, so processes are spawned. Numba, which scanpy uses, would
    # change the number of
    # threads of torch.
    one_thread = patch.dict(os.environ, {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"})
    workers = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(n_jobs)]
    running: dict[Future, tuple[Job, ProcessPoolExecutor, Iterator[Job]]] = {}

    def submit(worker: ProcessPoolExecutor, jobs: Iterator[Job]) -> None:
        if (job := next(jobs, None)) is not None:
            running[worker.submit(run, job, options)] = job, worker, jobs

    try:
        with one_thread:
            for worker in workers:  # each runs a whole group, then the next one
                submit(worker, chain.from_iterable(waiting))
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, worker, jobs = running.pop(future)
                    submit(worker, jobs)
                    yield job, future.exception() or future.result()
    finally:
        for worker in workers:
            worker.shutdown(cancel_futures=True)
