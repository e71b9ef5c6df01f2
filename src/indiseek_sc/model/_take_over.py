"""Copying of the trained parts of another model of the same cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indiseek_sc.model._cells import find_split, require

if TYPE_CHECKING:
    import torch

    from indiseek_sc.model._model import IndiSeek

SHARED_PARTS = ("transforms", "design", "covariate_offsets", "encoders", "predictors", "rotations", "log_scale")
SPECIFIC_PARTS = ("encoder_decoders", "joint")


def take_over(model: IndiSeek, other: IndiSeek) -> None:
    """Copy the trained parts of another model of the same cells that both have in common.

    The split, the feature transforms and the shared representations are copied, and so are the
    specific representations if they have the same architecture; critics are not. Afterwards,
    ``train(stages=("specific",))`` trains stage 2 alone; with ``keep_start=True``, it starts from
    the conditional whitening and normalizing flow of the other model, as :meth:`lambda_path` does.
    Later training of either model does not affect the other.

    Parameters
    ----------
    other
        Model with trained shared representations, of this class or another one, such as a baseline
        or an ablation.

    Raises
    ------
    RuntimeError
        If the shared representations of ``other`` are not trained.
    TypeError
        If ``other`` is not a model.
    ValueError
        If ``other`` was trained on other cells, or its shared representations have another
        architecture.

    Examples
    --------
    >>> IndiSeek.setup_mudata(mdata, batch_key="batch")
    >>> other_seed = IndiSeek(mdata, seed=1)
    >>> other_seed.take_over(model)
    >>> other_seed.stages_
    ['shared', 'specific']
    """
    if not hasattr(other, "stages_"):
        raise TypeError(f"other must be a model of this class or a baseline, but is {type(other).__name__}.")
    require(other, "shared")
    if model.adata is None or find_split(model, model._validate_anndata(), other.split_).n_cells < len(
        other.split_["cells"]
    ):
        raise ValueError("other: it was trained on cells that this model does not have.")
    if type(model.module).shared is not type(other.module).shared or not _are_alike(model, other, SHARED_PARTS):
        raise ValueError(
            "other: its shared representations have another architecture and cannot be copied. Create both models "
            "with the same settings."
        )
    classes = [
        {name: type(encoder_decoder) for name, encoder_decoder in m.module.encoder_decoders.items()}
        for m in (model, other)
    ]
    has_specific = "specific" in other.stages_ and classes[0] == classes[1] and _are_alike(model, other, SPECIFIC_PARTS)
    parts = (*SHARED_PARTS, *SPECIFIC_PARTS) if has_specific else SHARED_PARTS
    model.module.load_state_dict(_get_state(other, parts), strict=False)
    model.module.eval()
    model.stages_ = ["shared", "specific"] if has_specific else ["shared"]
    model.is_trained_ = has_specific
    model.split_ = dict(other.split_)
    model.history_ = dict(other.history_ or {})
    model.lambda_path_ = None
    model.train_settings_ = dict(other.train_settings_)
    if has_specific:
        model.lambda_ = other.lambda_


def _are_alike(model: IndiSeek, other: IndiSeek, parts: tuple[str, ...]) -> bool:
    """Return whether weights and buffers of some parts have the same names and shapes."""
    own, theirs = ({name: x.shape for name, x in _get_state(m, parts).items()} for m in (model, other))
    return own == theirs


def _get_state(model: IndiSeek, parts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {name: x for name, x in model.module.state_dict().items() if name.partition(".")[0] in parts}
