"""Make models with settings that are not arguments of the class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from indiseek_sc import IndiSeek

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData


def make_changed(mdata: MuData, changes: Mapping[str, Any], **kwargs: Any) -> IndiSeek:
    """Set up ``mdata`` and return an untrained model.

    Parameters
    ----------
    mdata
        The data.
    changes
        Settings by name, which replace those of the preset.
    **kwargs
        Arguments of :class:`~indiseek_sc.IndiSeek`.
    """
    model = type("Changed", (IndiSeek,), {"_changed_settings": dict(changes)})
    model.setup_mudata(mdata)
    return model(mdata, **kwargs)
