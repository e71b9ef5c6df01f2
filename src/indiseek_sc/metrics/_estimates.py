"""Estimates over refits: combination of means, with moderated variances over refits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import t

if TYPE_CHECKING:
    from numpy.typing import NDArray


MIN_LABELS_TO_MODERATE = 3
"""Variances of fewer labels are not moderated."""

MAX_DEGREES_OF_FREEDOM = 1e4
"""Degrees of freedom if the variance ratio does not differ among labels."""


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates of labels over refits.

    Attributes
    ----------
    value
        Mean over refits, shape ``(n_labels,)``.
    standard_error, degrees_of_freedom
        Standard error of the mean, and degrees of freedom of its t-distribution, same shape.

    Examples
    --------
    >>> found = isk.metrics.Estimates(np.array([1.0]), np.array([0.5]), np.array([1e4]))
    >>> found.interval(0.95)[0].round(2).tolist(), found.p_value().round(3).tolist()
    ([0.02], [0.046])
    """

    value: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    degrees_of_freedom: NDArray[np.float64]

    def interval(self, confidence: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both ends of the two-sided interval."""
        half = t.ppf((1 + confidence) / 2, self.degrees_of_freedom) * self.standard_error
        return self.value - half, self.value + half

    def p_value(self, *, above_zero: bool = False) -> NDArray[np.float64]:
        """Return p-values of the hypothesis that the value is 0, or at most 0 if ``above_zero``."""
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = self.value / self.standard_error
        df = self.degrees_of_freedom
        return t.sf(statistic, df) if above_zero else 2 * t.sf(np.abs(statistic), df)


def combine_refits(
    means: NDArray[np.float64], variances: NDArray[np.float64], n_sampled: NDArray[np.float64]
) -> Estimates:
    r"""Combine the means of labels over several refits into estimates with standard errors.

    With :math:`m_r` the mean of refit :math:`r` of :math:`R`, :math:`v` the sampling variance of
    the mean over all cells and :math:`s^2` the variance of :math:`m_r` over refits, the squared
    standard error of the mean over refits is :math:`v (1 + \tilde\rho / R)`. Here
    :math:`\tilde\rho` is the ratio :math:`\rho = s^2 / v` of the label, moderated towards the
    common value of all labels by empirical Bayes [1]_, since few refits give an imprecise variance:
    :math:`\tilde\rho = (d_0 \rho_0 + (R - 1) \rho) / (d_0 + R - 1)`, with :math:`\rho_0, d_0`
    fitted to all labels. Degrees of freedom are those of Welch and Satterthwaite. As refits are
    trained and evaluated on different halves of the cells, :math:`s^2` includes the effects of
    training cells and of seeds, and once more the sampling of test cells, which makes intervals
    conservative.

    Parameters
    ----------
    means
        Mean of each refit, shape ``(n_refits, n_labels)``; NaN if a refit has too few cells of a
        label.
    variances
        Sampling variance of the mean over all cells, estimated by each refit, same shape.
    n_sampled
        Number of cells, or of samples, from which the sampling variances were estimated, same
        shape.

    Returns
    -------
    Estimates with attributes ``value``, ``standard_error`` and ``degrees_of_freedom``; NaN for
    labels that are known in fewer than two refits.

    References
    ----------
    .. [1] Smyth. Linear models and empirical Bayes methods for assessing differential expression in
       microarray experiments. Stat. Appl. Genet. Mol. Biol. 3, 3 (2004).

    Examples
    --------
    >>> means = np.array([[1.0, 0.1], [3.0, 0.3]])
    >>> found = isk.metrics.combine_refits(means, np.ones((2, 2)), np.full((2, 2), 50.0))
    >>> found.value
    array([2. , 0.2])
    >>> found.standard_error.round(2)
    array([1.41, 1.  ])
    """
    is_known = np.isfinite(means) & np.isfinite(variances)
    n_refits = is_known.sum(axis=0)
    enough = n_refits > 1
    value, sampling, between, n = (np.full(means.shape[1], np.nan) for _ in range(4))
    known = np.where(is_known, means, np.nan)[:, enough]
    value[enough] = np.nanmean(known, axis=0)
    between[enough] = np.nanvar(known, axis=0, ddof=1)
    sampling[enough] = np.nanmean(np.where(is_known, variances, np.nan)[:, enough], axis=0)
    n[enough] = np.nanmean(np.where(is_known, n_sampled, np.nan)[:, enough], axis=0)
    between, df_between = _moderate(between, sampling, n_refits - 1)
    of_refits = between / np.maximum(n_refits, 1)
    total = sampling + of_refits
    with np.errstate(divide="ignore", invalid="ignore"):
        df = total**2 / (sampling**2 / np.maximum(n - 1, 1) + of_refits**2 / df_between)
    return Estimates(value, np.sqrt(total), np.where(total > 0, df, np.inf))


def _moderate(
    between: NDArray[np.float64], sampling: NDArray[np.float64], df: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return moderated variances over refits and their degrees of freedom.

    Moderation applies to the ratio of these variances to the sampling variances.
    """
    own = np.maximum(df, 1).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = between / sampling
    used = np.isfinite(ratio) & (ratio > 0)
    if used.sum() < MIN_LABELS_TO_MODERATE:
        return between, own
    # Moments of the logarithm of a scaled F distribution.
    own_used = own[used]
    logs = np.log(ratio[used]) - digamma(own_used / 2) + np.log(own_used / 2)
    excess = logs.var(ddof=1) - polygamma(1, own_used / 2).mean()
    between, df_between = between.copy(), own.copy()
    if excess <= 0:  # the ratios differ no more than by chance
        between[used], df_between[used] = np.exp(logs.mean()) * sampling[used], MAX_DEGREES_OF_FREEDOM
        return between, df_between
    half = brentq(lambda x: float(polygamma(1, x)) - excess, 1e-3, MAX_DEGREES_OF_FREEDOM)
    prior = np.exp(logs.mean() + digamma(half) - np.log(half))
    between[used] = (2 * half * prior + own_used * ratio[used]) / (2 * half + own_used) * sampling[used]
    df_between[used] += 2 * half
    return between, df_between
