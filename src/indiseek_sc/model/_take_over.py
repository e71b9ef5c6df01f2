"""Beginning where another model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from indiseek_sc._keys import ROLES
from indiseek_sc.model._base import ModelBase

if TYPE_CHECKING:
    from torch import Tensor

SHARED_PARTS = ("transforms", "batch_offsets", "batch_shares", "encoders", "predictors", "rotations", "log_scale")
SPECIFIC_PARTS = ("codecs", "joint")


class TakeOverMixin(ModelBase):
    """What methods have in common is trained once."""

    def take_over(self, other: Any) -> None:
        """Begin where another model of the same cells is, so that what both have in common is not trained twice.

        Taken over are the split, the feature transforms and the shared codes, and the specific codes too where they are of the same make;
        critics are not. Afterwards ``train(stages=("specific",))`` trains stage 2 alone, with ``keep_start=True`` from the conditional
        whitening and shape that the other model has, and so does :meth:`lambda_path`. Later training of either leaves the other alone.

        Parameters
        ----------
        other
            A model whose shared codes are trained, of this class or another one, such as a rival or an ablation.

        Raises
        ------
        RuntimeError
            If the shared codes of ``other`` are not trained.
        ValueError
            If it was trained on other cells, or its shared codes are made otherwise.
        """
        other._require("shared")
        if not self.adata.obs_names.equals(other.adata.obs_names):
            raise ValueError("other: it was trained on other cells, or they are in another order.")
        if type(self.module).shared is not type(other.module).shared or not self._is_alike(other, SHARED_PARTS):
            raise ValueError("other: its shared codes are made otherwise, so that they cannot be taken over.")
        codecs = [{role: type(model.module.codecs[role]) for role in ROLES} for model in (self, other)]
        has_specific = "specific" in other.stages_ and codecs[0] == codecs[1] and self._is_alike(other, SPECIFIC_PARTS)
        parts = (*SHARED_PARTS, *SPECIFIC_PARTS) if has_specific else SHARED_PARTS
        self.module.load_state_dict(_state(other, parts), strict=False)
        self.module.eval()
        self.stages_ = ["shared", "specific"] if has_specific else ["shared"]
        self.is_trained_ = has_specific
        self.split_ = dict(other.split_)
        self.train_indices, self.validation_indices, self.test_indices = self.split_.values()
        self.history_ = dict(other.history_ or {})
        self.lambda_path_ = None
        if has_specific:
            self.lambda_ = other.lambda_

    def _is_alike(self, other: Any, parts: tuple[str, ...]) -> bool:
        """Whether weights and buffers have the same names and shapes."""
        own, theirs = ({name: x.shape for name, x in _state(model, parts).items()} for model in (self, other))
        return own == theirs


def _state(model: Any, parts: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: x for name, x in model.module.state_dict().items() if name.partition(".")[0] in parts}
