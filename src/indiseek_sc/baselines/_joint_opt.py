"""JointOpt: both stages at once."""

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
    """Nothing of stage 1 is frozen while stage 2 learns."""

    frozen_in_specific: tuple[str, ...] = ("transforms", "design", "covariate_offsets", "rotations")

    def learners(self) -> list[nn.Module]:
        """Everything that has weights, but the critics."""
        return [*super().learners(), self.encoders, nn.ParameterList([self.log_scale])]

    def prepare_specific(
        self, role: Role, features: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]
    ) -> dict[str, Tensor]:
        """Compute once what stays as it is: the features of both modalities, and of the conditions the batch."""
        return super().prepare_specific(role, features, conditions) | {"other_features": features[other(role)]}

    def specific_terms(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms of stage 2, unweighted, and half of stage 1's loss: the other modality brings the other half."""
        terms = self.shared_terms({role: cells["features"], other(role): cells["other_features"]})
        own = self.condition_of(role, cells["features"], cells["condition"])
        updated = self._update_against(role, {**cells, "condition": own})
        return super().specific_terms(role, updated) | {"contrast": self.shared_objective(terms) / 2}

    def critic_losses(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss that teaches each critic of ``role``, by name, with all encoders left alone."""
        return super().critic_losses(role, self._update_against(role, cells))

    def critic_diagnostics(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return how good the critics of ``role`` are."""
        return super().critic_diagnostics(role, self._update_against(role, cells))

    @torch.no_grad()  # else the cheapest independence is that of a shared representation that tells nothing
    def _update_against(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return cells with what critics see as the encoders give it now; the plain encoder of specific representations reads no condition."""
        player, name = (role, "") if self.architecture.against == "own" else (other(role), "other_")
        return {**cells, "against": self.condition_of(player, cells[f"{name}features"], cells["against"])}


class JointOpt(IndiSeek):
    r"""Both stages of IndiSeek in one loss (named in its paper, arXiv 2509.21584, and in DisentangledSSL's, arXiv 2410.23996).

    .. math::

        \min\; \mathcal L_{\mathrm{InfoNCE}}(C_1, C_2) + \sum_i \Big[ I_{up}(Z_i; C_{3-i}) + \frac{\lambda}{2}\,
        \frac{E \lVert g_i(Z_i, C_i) - X_i \rVert^2}{E \lVert X_i - E X_i \rVert^2} \Big]

    over all encoders and decoders at once: shared representations learn to be of use to the decoder too, and specific representations to be independent
    of shared representations that move. The independence term leaves the shared representations themselves alone. With its gradient in them as well they
    became constant in our trial (InfoNCE at chance), which is independent of anything.

    A recast: the losses are the published ones, repaired as ours are (standardised :math:`Z`, both critics, at our pace), so that
    against :class:`~indiseek_sc.IndiSeek` with a plain encoder only the freezing differs. The sources leave widths and lengths open; ours are 16
    dimensions, two hidden layers of 256 units, 100 epochs. Conditional whitening needs shared representations that stand still, so there is
    none here. The shared and the specific stage cannot be trained apart.

    Parameters
    ----------
    mdata, registry, **kwargs
        As in :class:`indiseek_sc.IndiSeek`.
    """

    _module_cls = JointOptModule
    _shared_stages = (NEW_ENCODERS,)
    _trains_stages_apart = False
    _changed_settings: ClassVar[dict[str, Any]] = {**CLIP_SETTINGS, "max_epochs_specific": 100}
