"""IndiSeek with one of its ideas taken away."""

from __future__ import annotations

from typing import Any, ClassVar

from indiseek_sc.model import IndiSeek


class IntraModal(IndiSeek):
    """Independence of the *own* shared representation, where :class:`indiseek_sc.IndiSeek` asks it of the other's. Ours, an ablation.

    Critics see :math:`(Z_i, C_i)` in the place of :math:`(Z_i, C_{3-i})`; everything else is the same, conditional whitening too.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.
    """

    _changed_settings: ClassVar[dict[str, Any]] = {"against": "own"}


class NoReconstruction(IndiSeek):
    """Nothing asks the specific representation to be complete: ``lambda_`` is 0 by default. Ours, an ablation.

    The representation still starts from conditional whitening, and is decoded afterwards.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.
    """

    _changed_settings: ClassVar[dict[str, Any]] = {"lambda_": 0.0, "gate_critics": False}


class NoCritics(IndiSeek):
    """Conditional whitening as it is, without critics: whitened representations are not tuned at all. Ours, an ablation.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.
    """

    _changed_settings: ClassVar[dict[str, Any]] = {"independence": "none", "max_epochs_specific": 0}


class NoIndependence(IndiSeek):
    """Neither critics nor conditional whitening: an autoencoder of what the shared representation leaves. Ours, an ablation.

    A plain encoder and decoder of two hidden layers each and a standardised representation, on the same shared representations. ``lambda_`` scales
    the whole loss and changes nothing but Adam's first steps.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.
    """

    _changed_settings: ClassVar[dict[str, Any]] = {
        "independence": "none",
        "conditional_encoder_decoder": False,
        "gate_critics": False,
        "keep_least_leak": False,
        "specific_learning_rate": 1e-3,
        "specific_batch_size": 512,
        "max_epochs_specific": 200,
    }
