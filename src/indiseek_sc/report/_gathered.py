"""Warnings that come up while a report is made, for whoever reads it."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FOR_DEVELOPERS = (DeprecationWarning, FutureWarning, PendingDeprecationWarning)


@contextmanager
def gathered_warnings() -> Iterator[list[str]]:
    """Collect in the block what Python warns of and what the package logs as a warning, each once and in its order.

    Filters that are set stay in force: what a user chose not to see is not in the report either.
    """
    told: list[str] = []
    listener = _Listener(told)
    logger = logging.getLogger("scvi")
    handlers, logger.handlers = logger.handlers, [listener]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, category, *_, **__: (
                None if issubclass(category, FOR_DEVELOPERS) else listener.tell(str(message))
            )
            yield told
    finally:
        logger.handlers = handlers


class _Listener(logging.Handler):
    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.told = told

    def tell(self, message: str) -> None:
        text = " ".join(message.split())
        if text not in self.told:
            self.told.append(text)

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(record.getMessage())
