"""What features contribute to where cells lie along the dimensions of a code."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from indiseek_sc.data import iterate_rows, read_coordinates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.module import IndiSeekModule

POINTS_AT_ONCE = 4096
"""Points on the paths of cells that networks read at once."""

VALUES_AT_ONCE = 2**22
"""Numbers held at once in arrays of points by features: 16 MiB."""

LARGEST_MISS = 0.05
"""Of what contributions should add up to, root mean square over cells and dimensions."""


class Path(NamedTuple):
    """The straight lines that features of one modality take from the baseline to each cell.

    Parameters
    ----------
    change
        Where cells lie, less the baseline, shape ``(n_cells, n_features)``.
    start
        The baseline as the encoder reads it, shape ``(1, n_inner)``.
    end
        The cells as the encoder reads them, shape ``(n_cells, n_inner)``.
    components
        How the encoder's columns are made of features, shape ``(n_features, n_inner)``; none if they are the features.
    """

    change: Tensor
    start: Tensor
    end: Tensor
    components: Tensor | None = None


class IntegratedGradients:
    r"""Contributions of features to the dimensions of a code, which add up to its distance from the code of a baseline.

    .. math::

        a_{jk} = (x_j - b_j) \int_0^1 \frac{\partial z_k}{\partial x_j}\big(b + \alpha (x - b)\big)\, d\alpha , \qquad
        \sum_j a_{jk} = z_k(x) - z_k(b) ,

    by Captum (Sundararajan, Taly, Yan 2017, ICML 70, 3319). Of normalised values :math:`b` is the mean of the training cells. What
    follows them is linear up to the principal components, so the path is straight there too, and gradients are integrated in a
    space of few dimensions. Raw values are integrated as they are, with the mean of the cells looked at for :math:`b`: from a
    cell of no counts there is no path, since the library size takes the length out of it.

    Parameters
    ----------
    module
        The trained module.
    kind
        ``"shared"``, ``"specific"`` or ``"joint"``.
    matrices
        Raw values of each modality that is looked at; of both for the joint code.
    get_batch
        Batch codes of rows.
    baseline_rows
        Cells whose mean the baseline of raw values is; normalised values are looked at if not given.
    n_steps
        Points on the path.

    Raises
    ------
    ImportError
        If Captum is not installed.
    """

    def __init__(
        self,
        module: IndiSeekModule,
        kind: str,
        matrices: Mapping[Role, Any],
        get_batch: Callable[[np.ndarray], Tensor],
        *,
        baseline_rows: np.ndarray | None = None,
        n_steps: int = 32,
    ) -> None:
        try:
            from captum.attr import IntegratedGradients as CaptumGradients
        except ImportError as error:
            raise ImportError(
                "method='integrated_gradients' needs Captum. Install it by pip install \"indiseek_sc[attribution]\", "
                "or use method='decoder_jacobian'."
            ) from error
        # Gradients alone, which are multiplied by the change of many features here.
        self._make = lambda forward: CaptumGradients(forward, multiply_by_inputs=False)
        self.module = module
        self.kind = kind
        self.matrices = matrices
        self.get_batch = get_batch
        self.n_steps = n_steps
        self.is_raw = baseline_rows is not None
        self.starts = {} if baseline_rows is None else {role: self._mean(role, baseline_rows) for role in matrices}
        transforms = {role: module.transforms[role] for role in matrices}
        self.columns: dict[Role, np.ndarray] = {
            role: np.arange(t.n_input) if self.is_raw else t.features.cpu().numpy() for role, t in transforms.items()
        }
        self.widest_row = max(t.n_input for t in transforms.values())
        self.missed, self.whole = 0.0, 0.0

    def attribute(self, rows: np.ndarray) -> Iterator[tuple[Role, int, Tensor]]:
        """Yield modality, dimension, and the contributions in some cells in ascending order, shape ``(n_cells, n_features)``."""
        paths = {role: self._read(role, rows) for role in self.matrices}
        # One set of modalities at a time that a code is a function of.
        for roles in [tuple(paths)] if self.kind == "joint" else [(role,) for role in paths]:
            yield from self._follow({role: paths[role] for role in roles}, self.get_batch(rows))

    def _follow(self, paths: Mapping[Role, Path], batch: Tensor) -> Iterator[tuple[Role, int, Tensor]]:
        def encode(*arguments: Tensor) -> Tensor:
            *inner, of_batch = arguments
            return self._encode(dict(zip(paths, inner, strict=True)), of_batch)

        starts, ends = (tuple(getattr(path, end) for path in paths.values()) for end in ("start", "end"))
        with torch.no_grad():
            distance = encode(*ends, batch) - encode(*(x.expand(len(batch), -1) for x in starts), batch)
        n_inner = max(end.shape[1] for end in ends)
        at_once = max(len(batch), min(POINTS_AT_ONCE, VALUES_AT_ONCE // n_inner))
        captum = self._make(encode)
        for dimension in range(distance.shape[1]):
            slopes = captum.attribute(
                ends,
                starts,
                target=dimension,
                additional_forward_args=batch,
                n_steps=self.n_steps,
                internal_batch_size=at_once,
            )
            told = torch.zeros_like(distance[:, dimension])
            for (role, path), slope in zip(paths.items(), slopes, strict=True):
                contribution = path.change * (slope if path.components is None else slope @ path.components.T)
                told += contribution.sum(dim=1)
                yield role, dimension, contribution
            self.missed += float((told - distance[:, dimension]).square().sum())
        self.whole += float(distance.square().sum())

    def _encode(self, inner: Mapping[Role, Tensor], batch: Tensor) -> Tensor:
        features = {role: self.module.transforms[role](x) if self.is_raw else x for role, x in inner.items()}
        features = {role: self.module.batch_offsets[role](x, batch) for role, x in features.items()}
        if self.kind == "joint":
            return self.module.describe(features, batch)["joint"]
        (role,) = features
        return self.module.encode(self.kind, role, features[role], batch)

    def _read(self, role: Role, rows: np.ndarray) -> Path:
        transform, matrix = self.module.transforms[role], self.matrices[role]
        if self.is_raw:
            raw = torch.from_numpy(np.concatenate(list(iterate_rows(matrix, rows)))).to(self.module.device)
            return Path(raw - self.starts[role], self.starts[role], raw)
        # Standardised, the mean is 0; what was clipped is looked at as the networks see it.
        change = read_coordinates(transform, matrix, rows)
        start = transform.project(torch.zeros_like(change[:1]))
        return Path(change, start, transform.project(change), transform.components)

    def _mean(self, role: Role, rows: np.ndarray) -> Tensor:
        total = sum(part.sum(axis=0, dtype=np.float64) for part in iterate_rows(self.matrices[role], rows))
        return torch.from_numpy(total / rows.size)[None].to(self.module.device, torch.float32)

    def warn_if_incomplete(self) -> None:
        """Warn if contributions do not add up, since the points on the path were too few."""
        if self.whole > 0 and (miss := (self.missed / self.whole) ** 0.5) > LARGEST_MISS:
            warnings.warn(
                f"n_steps={self.n_steps}: contributions miss what they should add up to by {miss:.0%} (root mean square). "
                "Give more steps.",
                UserWarning,
                stacklevel=3,
            )
