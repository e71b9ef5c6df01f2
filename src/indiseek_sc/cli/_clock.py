"""What a command says while it works."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Says on the error stream what is done when, and remembers how long it took.

    Attributes
    ----------
    seconds
        How long each step took, by its name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def say(self, text: str) -> None:
        """Write a line that begins with the time since the start, in minutes and seconds."""
        minutes, seconds = divmod(int(time.perf_counter() - self._start), 60)
        typer.echo(f"[{minutes}:{seconds:02}] {text}", err=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say what is done in the block, and time it."""
        self.say(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)

    @contextmanager
    def speaking_for(self, logger_name: str) -> Iterator[None]:
        """Say in the block what a library logs, in place of its own handlers."""
        logger = logging.getLogger(logger_name)
        handlers = logger.handlers
        logger.handlers = [_Speaker(self)]
        try:
            yield
        finally:
            logger.handlers = handlers


class _Speaker(logging.Handler):
    """Hands messages of a logger to a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Say a message."""
        self.clock.say(record.getMessage())
