"""All methods by name, for benchmarks to go through."""

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
    """A method as a benchmark sees it; calling it makes a model.

    Parameters
    ----------
    model
        Its class.
    title
        How a table calls it.
    lambdas
        Values of ``lambda_`` of :meth:`~indiseek_sc.IndiSeek.train` to choose from by one label-free rule, from complete to
        independent; empty where there is nothing to weigh.
    settings
        Arguments that make it of its class.
    """

    model: type[IndiSeek]
    title: str
    lambdas: tuple[float, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, mdata: MuData, *, seed: int = 0, setup: Mapping[str, Any] | None = None, **settings: Any
    ) -> IndiSeek:
        """Register ``mdata`` with the class, by ``setup_mudata(mdata, **setup)``, and make a model that is not trained yet.

        Parameters
        ----------
        mdata
            Two modalities of the same cells.
        seed
            Decides weights, split and batches.
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
"""By name. All share the data path, the audit and the way they are saved; see each class for what is a recast."""


def make(
    name: str, mdata: MuData, *, seed: int = 0, setup: Mapping[str, Any] | None = None, **settings: Any
) -> IndiSeek:
    """Make a model by the name of its method, registered and not trained yet.

    Parameters
    ----------
    name
        A key of :data:`METHODS`.
    mdata, seed, setup, **settings
        As in :class:`Method`.

    Raises
    ------
    ValueError
        If there is no such method.
    """
    if name not in METHODS:
        raise ValueError(f"name: there is no method {name!r}, only {', '.join(METHODS)}.")
    return METHODS[name](mdata, seed=seed, setup=setup, **settings)
