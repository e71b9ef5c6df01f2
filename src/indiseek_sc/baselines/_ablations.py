"""Ablations: IndiSeek without one of its components."""

from __future__ import annotations

from typing import Any, ClassVar

from indiseek_sc.model import IndiSeek


class IntraModal(IndiSeek):
    """IndiSeek with independence of the *own* instead of the other shared representation.

    This ablation is not from the paper. Critics receive :math:`(Z_i, C_i)` instead of
    :math:`(Z_i, C_{3-i})`; everything else is unchanged, including conditional whitening.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.

    Examples
    --------
    >>> from indiseek_sc.baselines import IntraModal
    >>> IntraModal.setup_mudata(mdata)
    >>> IntraModal(mdata).settings.architecture.against
    'own'
    """

    _changed_settings: ClassVar[dict[str, Any]] = {"against": "own"}


class NoReconstruction(IndiSeek):
    """IndiSeek without the reconstruction loss of specific representations.

    This ablation is not from the paper. ``lambda_`` is 0 by default; specific representations are
    still initialised by conditional whitening, and decoders are trained afterwards.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.

    Examples
    --------
    >>> from indiseek_sc.baselines import NoReconstruction
    >>> NoReconstruction.setup_mudata(mdata)
    >>> NoReconstruction(mdata).is_trained
    False
    """

    _changed_settings: ClassVar[dict[str, Any]] = {"lambda_": 0.0, "gate_critics": False}


class NoCritics(IndiSeek):
    """IndiSeek without critics.

    This ablation is not from the paper. Specific representations are those of conditional
    whitening, without further training.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.

    Examples
    --------
    >>> from indiseek_sc.baselines import NoCritics
    >>> NoCritics.setup_mudata(mdata)
    >>> NoCritics(mdata).settings.architecture.independence
    'none'
    """

    _changed_settings: ClassVar[dict[str, Any]] = {"independence": "none", "max_epochs_specific": 0}


class NoIndependence(IndiSeek):
    """IndiSeek without critics and conditional whitening.

    This ablation is not from the paper. It is an autoencoder conditional on the shared
    representation, with a plain encoder and decoder of two hidden layers each, a standardised
    representation, and the same shared representations. ``lambda_`` scales the whole loss and
    affects only the first steps of Adam.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.

    Examples
    --------
    >>> from indiseek_sc.baselines import NoIndependence
    >>> NoIndependence.setup_mudata(mdata)
    >>> NoIndependence(mdata).settings.architecture.conditional_encoder_decoder
    False
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
