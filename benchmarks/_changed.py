"""Models with settings that the class does not take as arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from indiseek_sc import IndiSeek

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData


def make_changed(mdata: MuData, changes: Mapping[str, Any], **kwargs: Any) -> IndiSeek:
    """Register ``mdata`` and make a model that is not trained yet.

    Parameters
    ----------
    mdata
        The data.
    changes
        Settings by name, in the place of the preset's.
    **kwargs
        Arguments of :class:`~indiseek_sc.IndiSeek`.
    """
    model = type("Changed", (IndiSeek,), {"_changed_settings": dict(changes)})
    model.setup_mudata(mdata)
    return model(mdata, **kwargs)
