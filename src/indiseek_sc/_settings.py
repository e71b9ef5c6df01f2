"""Settings of the package: how much is held in memory at once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from indiseek_sc._checks import check_whole
from indiseek_sc._text import choices

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Settings", "settings"]


@dataclass
class Settings:
    """Sizes of the parts in which large data are computed.

    They limit memory and have no influence on results except for rounding errors. Use the instance
    ``indiseek_sc.settings``; processes that are started by ``n_jobs=`` have the default values.

    Parameters
    ----------
    cells_at_once
        Number of cells for which intermediate values of networks are held in memory, at least 1.
    values_at_once
        Number of values in temporary dense arrays, such as distances between cells or rows of a
        sparse matrix, at least 1. The default takes 16 MiB in single precision.

    Raises
    ------
    ValueError
        If a value is not a whole number of at least 1.

    Examples
    --------
    >>> isk.settings.values_at_once = 2**20  # for the rest of the session
    >>> isk.settings.values_at_once = 2**22
    """

    cells_at_once: int = 16_384
    values_at_once: int = 2**22

    def __setattr__(self, name: str, value: Any) -> None:
        names = [field.name for field in fields(self)]
        if name not in names:
            raise AttributeError(f"indiseek_sc.settings has no setting {name!r}. {choices(name, names)}")
        super().__setattr__(name, check_whole(name, value, 1))

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"indiseek_sc.settings.{name} cannot be deleted; set it to another value.")

    def rows_at_once(self, n_columns: int) -> int:
        """Return the number of rows of ``n_columns`` values to hold in memory, at least 1.

        Parameters
        ----------
        n_columns
            Number of values in a row.

        Returns
        -------
        The number of rows.

        Examples
        --------
        >>> isk.settings.rows_at_once(2000)
        2097
        """
        return max(1, self.values_at_once // max(1, n_columns))

    @contextmanager
    def override(self, **values: int) -> Iterator[None]:
        """Change settings within a context.

        Parameters
        ----------
        **values
            Values by the name of the setting.

        Raises
        ------
        AttributeError
            If there is no setting of this name.
        ValueError
            If a value is not a whole number of at least 1.

        Examples
        --------
        >>> with isk.settings.override(cells_at_once=1000):
        ...     isk.settings.cells_at_once
        1000
        >>> isk.settings.cells_at_once
        16384
        """
        before = vars(self).copy()
        try:
            for name, value in values.items():
                setattr(self, name, value)
            yield
        finally:
            vars(self).update(before)


settings = Settings()
