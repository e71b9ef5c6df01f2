"""JointOpt: joint optimisation of both stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from indiseek_sc._keys import other
from indiseek_sc.baselines._clip import CLIP_SETTINGS, UnitModule
from indiseek_sc.model import NEW_ENCODERS, IndiSeek

if TYPE_CHECKING:
    from collections.abc import Mapping

    from indiseek_sc._keys import Role


class JointOptModule(UnitModule):
    """Module whose encoders of stage 1 are trained in stage 2 as well."""

    frozen_in_specific: tuple[str, ...] = ("transforms", "design", "covariate_offsets", "rotations")

    def learners(self) -> list[nn.Module]:
        """Return all modules with weights except the critics."""
        return [*super().learners(), self.encoders, nn.ParameterList([self.log_scale])]

    def prepare_specific(
        self, role: Role, features: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the fixed inputs: the features of both modalities, and the covariates."""
        return super().prepare_specific(role, features, conditions) | {"other_features": features[other(role)]}

    def specific_terms(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the unweighted terms of stage 2 and half of the loss of stage 1.

        The other half is contributed by the other modality.
        """
        terms = self.shared_terms({role: cells["features"], other(role): cells["other_features"]})
        own = self.condition_of(role, cells["features"], cells["condition"])
        updated = self._update_against(role, {**cells, "condition": own})
        return super().specific_terms(role, updated) | {"contrast": self.shared_objective(terms) / 2}

    def critic_losses(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of each critic of ``role`` by name; encoders receive no gradients."""
        return super().critic_losses(role, self._update_against(role, cells))

    def critic_diagnostics(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the performance of the critics of ``role``."""
        return super().critic_diagnostics(role, self._update_against(role, cells))

    @torch.no_grad()  # otherwise a constant shared representation would minimise dependence
    def _update_against(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return cells with the input of critics recomputed by the current encoders.

        The plain encoder of specific representations does not use the condition.
        """
        player, name = (role, "") if self.architecture.against == "own" else (other(role), "other_")
        return {**cells, "against": self.condition_of(player, cells[f"{name}features"], cells["against"])}


class JointOpt(IndiSeek):
    r"""Both stages of IndiSeek in one loss.

    The method is named in IndiSeek's paper (arXiv 2509.21584) and in that of DisentangledSSL (arXiv
    2410.23996).

    .. math::

        \min\; \mathcal L_{\mathrm{InfoNCE}}(C_1, C_2) + \sum_i \Big[ I_{up}(Z_i; C_{3-i}) + \frac{\lambda}{2}\,
        \frac{E \lVert g_i(Z_i, C_i) - X_i \rVert^2}{E \lVert X_i - E X_i \rVert^2} \Big]

    over all encoders and decoders: shared representations also learn to support the decoder, and
    specific representations learn to be independent of shared representations that change during
    training. The gradient of the independence term does not reach the shared representations:
    with this gradient they became constant in a trial (InfoNCE at chance level), since a constant
    is independent of everything.

    This is an adaptation: the losses are the published ones, with the same corrections as in this
    package (standardised :math:`Z`, both critics, the same training schedule), so that the only
    difference from :class:`~indiseek_sc.IndiSeek` with a plain encoder is that the shared encoders
    are not frozen. The sources do not specify widths and lengths of training; here, they are 16
    dimensions, two hidden layers of 256 units and 100 epochs. Conditional whitening requires fixed
    shared representations and is not used. The shared and the specific stage cannot be trained
    separately.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.

    Examples
    --------
    >>> from indiseek_sc.baselines import JointOpt
    >>> JointOpt.setup_mudata(mdata)
    >>> JointOpt(mdata).is_trained
    False
    """

    _module_cls = JointOptModule
    _shared_stages = (NEW_ENCODERS,)
    _trains_stages_apart = False
    _changed_settings: ClassVar[dict[str, Any]] = {**CLIP_SETTINGS, "max_epochs_specific": 100}
