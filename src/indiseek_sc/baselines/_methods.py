"""All methods by name, for benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from indiseek_sc.baselines._ablations import IntraModal, NoCritics, NoIndependence, NoReconstruction
from indiseek_sc.baselines._clip import CLIP
from indiseek_sc.baselines._factorized_cl import FactorizedCL
from indiseek_sc.baselines._info_disen import InfoDisen
from indiseek_sc.baselines._joint_opt import JointOpt
from indiseek_sc.model import IndiSeek

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData


@dataclass(frozen=True)
class Method:
    """A method of a benchmark; calling it creates a model.

    Parameters
    ----------
    model
        Class of the model.
    title
        Name of the method in tables.
    lambdas
        Values of ``lambda_`` of :meth:`~indiseek_sc.IndiSeek.train` from which a label-free rule
        selects, in decreasing order, from complete to independent; empty if the method has no such
        weight.
    settings
        Arguments of the class that define the method.

    Examples
    --------
    >>> method = isk.baselines.METHODS["clip"]
    >>> method.title, method.lambdas
    ('CLIP only', ())
    """

    model: type[IndiSeek]
    title: str
    lambdas: tuple[float, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, mdata: MuData, *, seed: int = 0, setup: Mapping[str, Any] | None = None, **settings: Any
    ) -> IndiSeek:
        """Register ``mdata`` by ``setup_mudata(mdata, **setup)`` and create an untrained model.

        Parameters
        ----------
        mdata
            Data with two modalities of the same cells.
        seed
            Seed of weights, split and batches.
        setup
            Arguments of :meth:`~indiseek_sc.IndiSeek.setup_mudata`.
        **settings
            Further arguments of the class.
        """
        self.model.setup_mudata(mdata, **(setup or {}))
        return self.model(mdata, seed=seed, **{**self.settings, **settings})


METHODS: dict[str, Method] = {
    "indiseek": Method(IndiSeek, "IndiSeek", (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)),
    "indiseek_literal": Method(IndiSeek, "IndiSeek, literal", (1000.0, 100.0, 10.0, 1.0), {"preset": "paper"}),
    "clip": Method(CLIP, "CLIP only"),
    "factorized_cl": Method(FactorizedCL, "FactorizedCL", (1000.0, 100.0, 10.0, 1.0)),
    "info_disen": Method(InfoDisen, "InfoDisen", (10000.0, 1000.0, 100.0, 10.0)),
    "joint_opt": Method(JointOpt, "JointOpt", (1000.0, 300.0, 100.0, 30.0, 10.0)),
    "intra_modal": Method(IntraModal, "independence of own C", (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)),
    "no_reconstruction": Method(NoReconstruction, "no reconstruction"),
    "no_critics": Method(NoCritics, "whitening, no critics"),
    "no_independence": Method(NoIndependence, "no independence"),
}
"""All methods by name; they share data processing, audit and file format."""


def make(
    name: str, mdata: MuData, *, seed: int = 0, setup: Mapping[str, Any] | None = None, **settings: Any
) -> IndiSeek:
    """Create an untrained model by the name of its method, with registered data.

    Parameters
    ----------
    name
        A key of :data:`METHODS`.
    mdata, seed, setup, **settings
        As in :class:`Method`.

    Returns
    -------
    The untrained model.

    Raises
    ------
    ValueError
        If there is no such method.

    Examples
    --------
    >>> model = isk.baselines.make("info_disen", mdata, setup={"batch_key": "batch"})
    >>> type(model).__name__
    'InfoDisen'
    """
    if name not in METHODS:
        raise ValueError(f"name: there is no method {name!r}, only {', '.join(METHODS)}.")
    return METHODS[name](mdata, seed=seed, setup=setup, **settings)
