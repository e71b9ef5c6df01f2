"""A stage of training as a function with named inputs and outputs, and the loop over stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indiseek_sc.model._runs import explain_memory_errors
from indiseek_sc.module import IndiSeekModule

if TYPE_CHECKING:
    from indiseek_sc.model._checkpoint import Checkpoint
    from indiseek_sc.model._runs import StageRun


@dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Parameters
    ----------
    name
        Name of the stage.
    run
        Function that runs the stage. It receives the run and the inputs by name, changes the
        module, and returns the outputs by name.
    inputs, outputs
        Names of the values that the stage reads and returns.
    learns
        Whether the stage trains by gradient descent. Such a stage is skipped after another stage
        ended early; closed forms are always computed, so that the representations are complete.
    is_needed
        Function of the module that returns whether the stage has anything to do.

    Examples
    --------
    >>> isk.model.NEW_ENCODERS.name
    'new encoders'
    """

    name: str
    run: Callable[..., Mapping[str, Any]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    learns: bool = False
    is_needed: Callable[[IndiSeekModule], bool] = lambda module: True


def run_stages(
    stages: Sequence[Stage], run: StageRun, values: Mapping[str, Any], checkpoint: Checkpoint | None = None
) -> dict[str, Any]:
    """Run stages in turn.

    Parameters
    ----------
    stages
        Stages to run.
    run
        Module in training and its options.
    values
        Initial values by name: ``features`` (by modality, shape ``(n_cells, n_features)``),
        ``design`` (covariates, shape ``(n_cells, n_columns)``) and ``lambda_``.
    checkpoint
        Checkpoint from which finished stages are restored, and to which the others are saved.

    Returns
    -------
    The initial values and all outputs, by name.
    """
    n_finished, known = (0, dict(values)) if checkpoint is None else checkpoint.resume(stages, run, values)
    for stage in stages[n_finished:]:
        made: Mapping[str, Any] = {}
        if stage.is_needed(run.module) and not (stage.learns and run.reason is not None):
            with explain_memory_errors(stage.name, run.options, len(known["design"]), learns=stage.learns):
                found = stage.run(run, **{name: known[name] for name in stage.inputs})
            made = {name: found[name] for name in stage.outputs}
        known |= made
        if checkpoint is not None:
            checkpoint.note(stage, run, made)
    return known
