"""Evaluation of the representations of one modality by independent probes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from indiseek_sc.metrics._directions import add_noise_floor, flat_directions
from indiseek_sc.metrics._permutation import permutation_p_value
from indiseek_sc.metrics._probes import PROBES, REGRESSIONS, HeldOut, fit_ridge, probe

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

_MIN_DENOMINATOR = 0.02
"""Ratios with a smaller denominator would mostly compare noise; they are NaN."""

_MIN_COMPONENTS = 10
"""Smallest number of components for ``r2_best``, however few dimensions Z has."""

NOISE_STREAM = 20250921
"""Ensures that the noise differs from synthetic data drawn with the same seed."""


class ModalityInputs(NamedTuple):
    """Features and shared representation of one modality, one row for each cell."""

    features: NDArray[np.floating]
    shared: NDArray[np.floating]


class Cells(NamedTuple):
    """Row numbers of the cells for fitting and evaluation, and optionally groups of cells."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    groups: NDArray[np.intp] | None = None


class Evaluator:
    """Evaluator of the representations of one modality.

    The measures are those of :func:`indiseek_sc.metrics.audit`. Probes that depend on features and
    shared representations alone are fitted only once.

    Parameters
    ----------
    own, other
        Inputs of this modality and of the other one.
    cells
        Cells on which probes are fitted and evaluated.
    seed
        Seed of the probes, the noise and the permutations.
    place
        Index of this modality, 0 or 1, which gives each modality its own noise.
    probes
        Kinds of probes; nearest neighbours are used for the leak only.
    """

    def __init__(
        self,
        own: ModalityInputs,
        other: ModalityInputs,
        cells: Cells,
        *,
        seed: int,
        place: int,
        probes: Collection[str] = PROBES,
    ) -> None:
        self.own, self.other, self.cells, self.seed, self.place, self.probes = own, other, cells, seed, place, probes

    def _probe(self, source: NDArray[np.floating], target: NDArray[np.floating], kinds: Collection[str]) -> HeldOut:
        chosen = [kind for kind in kinds if kind in self.probes]
        return probe(source, target, self.cells.train, self.cells.test, probes=chosen, seed=self.seed)

    def _r2(self, source: NDArray[np.floating], target: NDArray[np.floating]) -> float:
        return self._probe(source, target, REGRESSIONS).r2

    def _probe_leak(self, source: NDArray[np.floating]) -> HeldOut:
        return self._probe(source, self._other_flat, PROBES)

    def _rng(self, use: int) -> np.random.Generator:
        return np.random.default_rng([NOISE_STREAM, self.seed, self.place, use])

    @cached_property
    def _other_flat(self) -> NDArray[np.float64]:
        return flat_directions(self.other.shared, self.cells.train)

    @cached_property
    def _shared_with_noise(self) -> NDArray[np.float64]:
        return add_noise_floor(self.own.shared, self.cells.train, self._rng(0))

    @cached_property
    def _max_leak(self) -> HeldOut:
        return self._probe_leak(self.own.features)

    @cached_property
    def _r2_shared(self) -> float:
        return self._r2(self._shared_with_noise, self.own.features)

    @cached_property
    def _r2_reference(self) -> dict[int, float]:
        """Cache of R2 by number of components."""
        return {}

    @cached_property
    def shared_figures(self) -> dict[str, float]:
        """Return measures of the shared representation, without ``agreement_flat``.

        The latter equals ``leak_max`` of the other modality.
        """
        explained = self._r2(self._shared_with_noise, self.other.features)
        return {
            "agreement": self._r2(self.other.features, self.own.shared),
            "sufficiency": _ratio(explained, self._r2(self.own.features, self.other.features)),
        }

    def evaluate_leak(self, specific: NDArray[np.floating]) -> dict[str, float]:
        """Return how much a specific representation explains of the other shared representation.

        Includes the standard error of ``leak_ratio``.
        """
        leak, largest = self._probe_leak(specific), self._max_leak
        groups = None if self.cells.groups is None else self.cells.groups[self.cells.test]
        p = (
            permutation_p_value(leak.predictions.values(), leak.truth, self._rng(2), groups)
            if leak.predictions
            else np.nan
        )
        is_defined = largest.r2 >= _MIN_DENOMINATOR
        return {
            "leak": leak.r2,
            "leak_max": largest.r2,
            "leak_ratio": _ratio(max(leak.r2, 0.0), largest.r2),
            "leak_ratio_se": _ratio_error(leak.explained, largest.explained) if is_defined else float("nan"),
            "leak_p": float(p),
        }

    def evaluate_completeness(
        self, specific: NDArray[np.floating], decoded: NDArray[np.floating] | None
    ) -> dict[str, float]:
        """Return how much of the features a specific representation explains beyond the shared one.

        The reference is what the best representation of the same width could add.
        """
        both = np.hstack([add_noise_floor(specific, self.cells.train, self._rng(1)), self._shared_with_noise])
        r2_both = self._r2(both, self.own.features)
        if decoded is not None:
            r2_both = max(r2_both, self._r2(np.hstack([both, decoded]), self.own.features))
        r2_best = max(self._best_of_width(specific.shape[1]), r2_both)
        return {
            "r2_shared": self._r2_shared,
            "r2_both": r2_both,
            "r2_best": r2_best,
            "complete": _ratio(r2_both, r2_best),
            "gain": _ratio(r2_both - self._r2_shared, r2_best - self._r2_shared),
        }

    def _best_of_width(self, width: int) -> float:
        """Return R2 of the features given the shared representation and principal components.

        Components are those of the residuals of a ridge regression of the features on the shared
        representation.
        """
        train, features = self.cells.train, self.own.features
        n_components = min(max(width, _MIN_COMPONENTS), features.shape[1], len(train))
        if n_components not in self._r2_reference:
            predicted = fit_ridge(self._shared_with_noise[train], features[train]).predict(self._shared_with_noise)
            residual = features - predicted.reshape(features.shape)
            components = PCA(n_components, random_state=0).fit(residual[train]).transform(residual)
            self._r2_reference[n_components] = self._r2(np.hstack([components, self._shared_with_noise]), features)
        return self._r2_reference[n_components]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole >= _MIN_DENOMINATOR else float("nan")


def _ratio_error(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    """Return the standard error over cells of ``sum(part) / sum(whole)``.

    It is obtained by linearisation (Cochran, Sampling Techniques, 6.4).
    """
    rest = part - part.sum() / whole.sum() * whole
    return float(np.sqrt(len(rest) * rest.var(ddof=1)) / whole.sum())
