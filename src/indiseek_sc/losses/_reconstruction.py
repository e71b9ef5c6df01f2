"""The completeness term of stage 2."""

from __future__ import annotations

from torch import Tensor


def normalized_error(target: Tensor, estimate: Tensor, total_variance: Tensor) -> Tensor:
    r"""Squared error as a share of what there was to explain.

    .. math::

        \frac{E \| x - \hat x \|^2}{E \| x - E x \|^2} = 1 - R^2,

    free of scale, so that one lambda means the same for every modality (IndiSeek, arXiv 2509.21584).

    Parameters
    ----------
    target
        Features, shape ``(n_cells, n_features)``.
    estimate
        Their reconstruction, same shape.
    total_variance
        Sum over features of their variance in the training cells, scalar, positive.

    Returns
    -------
    Scalar; 0 is perfect, 1 is the mean of each feature.
    """
    return (target - estimate).square().sum(dim=1).mean() / total_variance
