"""The stages of training, each a value with named inputs and outputs, in the order in which they run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from indiseek_sc.model._evidence import SMALLEST_INFORMATION, explains, find_dependence, find_information, needs_flow
from indiseek_sc.model._runs import explained_memory
from indiseek_sc.model._shared import learn_shared, reset_encoders, some_rows
from indiseek_sc.module import IndiSeekModule
from indiseek_sc.nn import ConditionalEncoderDecoder
from indiseek_sc.train import KeepBest, LeakProbe, SpecificPlan, StageData, warn_of_negative_bounds

if TYPE_CHECKING:
    from indiseek_sc._keys import Role
    from indiseek_sc.model._checkpoint import Checkpoint
    from indiseek_sc.model._runs import StageRun

    Values = Mapping[Role, Tensor]

logger = logging.getLogger("scvi.indiseek_sc")

PATIENCE_OF_SPLINES = 10
"""Epochs without a better likelihood on validation cells before splines stop to learn."""

PATIENCE_OF_CRITICS = 5
"""Epochs without a better loss on validation cells before critics stop to learn alone."""


@dataclass(frozen=True)
class Stage:
    """A step of the training.

    Parameters
    ----------
    name
        What it is called.
    run
        The function that takes the step: it gets the run and the inputs by name, changes the module, and returns the outputs by name.
    inputs, outputs
        Names of the values that it reads and of those that it makes.
    learns
        Whether it goes through the cells many times. Such a stage is left out once another one ended early; a closed form is
        computed in any case, so that the representations are whole.
    is_needed
        Whether the module has something for it to do.
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
    """Take the steps in turn.

    Parameters
    ----------
    stages
        The stages.
    run
        What is trained, and how.
    values
        What the stages read, by name: ``features`` (a tensor of all cells by modality, shape ``(n_cells, n_features)``), ``design``
        (covariates, shape ``(n_cells, n_columns)``) and ``lambda_`` at the beginning.
    checkpoint
        Knows the stages that were finished before, which are left out, and is told of the others.

    Returns
    -------
    These values and all outputs.
    """
    n_finished, known = (0, dict(values)) if checkpoint is None else checkpoint.resume(stages, run, values)
    for stage in stages[n_finished:]:
        made: Mapping[str, Any] = {}
        if stage.is_needed(run.module) and not (stage.learns and run.reason is not None):
            with explained_memory(stage.name, run.options, len(known["design"]), learns=stage.learns):
                found = stage.run(run, **{name: known[name] for name in stage.inputs})
            made = {name: found[name] for name in stage.outputs}
        known |= made
        if checkpoint is not None:
            checkpoint.note(stage, run, made)
    return known


# Stage 2, up to the start of the critics


def reset_encoder_decoders(run: StageRun) -> dict[str, Any]:
    """Make new encoder-decoders and critics, and freeze what stage 2 must not change."""
    module = run.module
    module.reset_specific()
    module.to(run.options.device.torch)
    module.frozen = module.frozen_in_specific
    return {}


def reset_after_start(run: StageRun) -> dict[str, Any]:
    """Make new what comes after the conditional whitening and shape, which are kept."""
    kept = {name: encoder_decoder.start_state() for name, encoder_decoder in run.module.encoder_decoders.items()}
    reset_encoder_decoders(run)
    for name, encoder_decoder in run.module.encoder_decoders.items():
        encoder_decoder.load_state_dict(kept[name], strict=False)
    return {}


@torch.no_grad()
def compute_conditions(run: StageRun, features: Values, design: Tensor) -> dict[str, Any]:
    """Compute what stage 2 is conditioned on: the shared representations of each cell and its covariates."""
    module = run.module
    return {
        "conditions": {name: module.condition(name, module.shared(name, x), design) for name, x in features.items()}
    }


def fit_encoder_decoders(run: StageRun, features: Values, conditions: Values) -> dict[str, Any]:
    """Fit what has a closed form in the encoder-decoders: regression on the condition, principal axes of the residual, scales."""
    module, train = run.module, run.rows.train
    for name, encoder_decoder in module.encoder_decoders.items():
        encoder_decoder.fit(features[name][train], conditions[name][train], module.rotations[name].n_kept)
    return {}


def _conditional_encoder_decoders(module: IndiSeekModule) -> dict[Role, ConditionalEncoderDecoder]:
    return {
        name: encoder_decoder
        for name, encoder_decoder in module.encoder_decoders.items()
        if isinstance(encoder_decoder, ConditionalEncoderDecoder)
    }


def fit_whitening(run: StageRun, features: Values, conditions: Values) -> dict[str, Any]:
    """Fit the conditional mean and covariance of the residual, and leave out dimensions of low variance."""
    fitted_on, chosen_by = some_rows(run.rows.train), some_rows(run.rows.validation)
    rows = torch.cat([fitted_on, chosen_by])
    for name, encoder_decoder in _conditional_encoder_decoders(run.module).items():
        encoder_decoder.fit_whitening(features[name][rows], conditions[name][rows], len(fitted_on))
    return {}


def train_flow(run: StageRun, features: Values, conditions: Values) -> dict[str, Any]:
    """Train splines, and drop those that the condition does not help.

    None are trained for a modality in which a first look finds no dependence of shape. Of trained ones, :func:`find_information` says on
    validation cells how much the condition tells of the shape. Where that is little, or no more than chance gives, splines that depend on a
    condition would bring in more dependence than they remove.
    """
    encoder_decoders, validation = _conditional_encoder_decoders(run.module), some_rows(run.rows.validation)
    with torch.no_grad():
        whitened = {
            name: encoder_decoder.whitened(features[name], conditions[name])
            for name, encoder_decoder in encoder_decoders.items()
        }
    splines = {}
    for name, encoder_decoder in encoder_decoders.items():
        if needs_flow(whitened[name], conditions[name], run.rows):
            splines[name] = encoder_decoder.flow
        else:
            encoder_decoder.flow.give_up()
    if not splines:
        return {}
    run.fit_regression(
        "flow",
        splines,
        lambda name, batch: splines[name].loss(batch["values"], batch["condition"]),
        {name: {"values": whitened[name], "condition": conditions[name]} for name in splines},
        smallest_gain=3e-3,
        patience=PATIENCE_OF_SPLINES,
    )
    for name, spline in splines.items():
        held_out = (x[name][validation] for x in (whitened, conditions))
        information, error = find_information(spline, *held_out, seed=run.seed)
        if run.reason is not None or information < max(SMALLEST_INFORMATION, 2 * error):
            spline.give_up()
    return {}


def freeze_start(run: StageRun, features: Values, conditions: Values) -> dict[str, Any]:
    """Note mean and standard deviation of the start of the specific representations over the training cells."""
    train = run.rows.train
    for name, encoder_decoder in _conditional_encoder_decoders(run.module).items():
        encoder_decoder.freeze_start(features[name][train], conditions[name][train])
    return {}


@torch.no_grad()
def prepare_cells(run: StageRun, features: Values, conditions: Values) -> dict[str, Any]:
    """Compute once what the critics' stage reads of each cell, and set the statistics that standardise the representations."""
    module = run.module
    module.eval()  # new parts are in training mode, where dropout would blur the start
    cells = {name: module.prepare_specific(name, features, conditions) for name in module.modalities}
    _freeze_statistics(run, cells)
    return {"cells": cells}


def _freeze_statistics(run: StageRun, cells: Mapping[Role, Mapping[str, Tensor]]) -> None:
    for name, encoder_decoder in run.module.encoder_decoders.items():
        rows = {key: x[run.rows.train] for key, x in cells[name].items()}
        encoder_decoder.freeze_statistics(rows, rows["condition"])


# Stage 2, the critics and what follows


def learn_critics(run: StageRun, cells: Mapping[Role, Mapping[str, Tensor]]) -> dict[str, Any]:
    """Train the critics alone, on representations that stand still, and return the modalities in which there is dependence to remove.

    There is where critics or a probe in closed form find it on validation cells, beyond what chance gives. Without critics that
    learn, or with ``gate_critics=False``, all modalities are returned and nothing is trained.
    """
    module, rows, o = run.module, run.rows, run.options.optimisation
    if not (o.gate_critics and module.critics_learn):
        return {"dependent": module.modalities}
    with torch.no_grad():
        pairs = {
            name: {"specific": module.encode_prepared(name, x), "against": x["against"]} for name, x in cells.items()
        }
    run.fit_regression(
        "critics",
        dict(module.critics.items()),
        lambda name, batch: module.critics[name].critic_loss(batch["specific"], batch["against"]),
        {name: {"condition": x["against"], **x} for name, x in pairs.items()},
        smallest_gain=1e-3,
        learning_rate=o.critic_learning_rate,
        patience=PATIENCE_OF_CRITICS,
    )
    dependent = []
    for name, pair in pairs.items():
        held_out = [x[rows.validation] for x in (pair["specific"], pair["against"])]
        if find_dependence(module.critics[name], *held_out) or explains(pair["specific"], pair["against"], rows):
            dependent.append(name)
    logger.info(
        "Critics and probes find dependence on validation cells, beyond chance, in: "
        f"{', '.join(run.names[name] for name in dependent) or 'none, so that specific representations stay where they start'}."
    )
    return {"dependent": tuple(dependent)}


def learn_specific(
    run: StageRun,
    features: Values,
    design: Tensor,
    conditions: Values,
    cells: Mapping[Role, Mapping[str, Tensor]],
    lambda_: float,
    dependent: tuple[Role, ...],
) -> dict[str, Any]:
    """Train the specific representations of the modalities in which there is dependence against their critics, from where both are."""
    module, rows, o = run.module, run.rows, run.options.optimisation
    if not dependent:
        return {"conditions": conditions, "cells": cells}
    data = StageData(
        {name: dict(cells[name]) for name in dependent},
        rows.train,
        rows.validation,
        batch_size=o.specific_batch_size,
        validation_batch_size=o.specific_batch_size,  # losses and bounds compare between batches of one size only
        n_extra=o.n_critic_steps if module.critics_learn else 0,
        seed=run.seed,
    )
    steps = run.steps_per_epoch(data)
    n_epochs, n_alone, n_warmup_steps = _count_critic_epochs(run, steps)
    probe: LeakProbe | None = None
    kept: dict[str, nn.Module] = {"latest": nn.ModuleList(module.learners())}
    if o.keep_least_leak:
        probe = LeakProbe({name: cells[name] for name in dependent}, rows.train, rows.validation, seed=run.seed)
        kept = {f"{name}_leak": module.encoder_decoders[name].learner for name in dependent}
    fit = run.fit(
        "specific",
        SpecificPlan(
            module,
            o,
            lambda_=lambda_,
            n_steps=n_epochs * steps,
            n_warmup_steps=n_warmup_steps,
            probe=probe,
            modalities=dependent,
        ),
        data,
        # Not before its end: dependence is least when the learning rate has fallen, and some of it no probe sees.
        KeepBest(kept, patience=0, smallest_gain=1e-3),
        f"Specific representations, lambda {lambda_:g}",
        {f"{name}_error": f"{run.names[name]} error" for name in dependent},
        max_epochs=n_alone + n_epochs,
    )
    if fit.reason is None:
        warn_of_negative_bounds(fit.history)
    if "encoders" in module.frozen:
        _freeze_statistics(run, cells)
        return {"conditions": conditions, "cells": cells}
    conditions = compute_conditions(run, features, design)["conditions"]
    return {"conditions": conditions, **prepare_cells(run, features, conditions)}


def _count_critic_epochs(run: StageRun, steps_per_epoch: int) -> tuple[int, int, int]:
    """Return the epochs of the encoders, those before them in which critics learn alone, and the critic steps of these.

    A number of epochs that the user gave is that of both together, and the critics have at most half of it to themselves.
    """
    o, given = run.options.optimisation, run.options.max_epochs.get("specific")
    learned_before = o.gate_critics  # see learn_critics
    n_warmup_steps = o.n_critic_warmup_steps if run.module.critics_learn and not learned_before else 0
    steps = o.n_critic_steps * steps_per_epoch
    n_alone = -(-n_warmup_steps // steps)
    if given is None:
        return o.max_epochs_specific, n_alone, n_warmup_steps
    n_alone = min(n_alone, given // 2)
    return given - n_alone, n_alone, min(n_warmup_steps, n_alone * steps)


def encode_cells(run: StageRun, cells: Mapping[Role, Mapping[str, Tensor]]) -> dict[str, Any]:
    """Compute the finished specific representations."""
    with torch.no_grad():
        return {"specific": {name: run.module.encode_prepared(name, x) for name, x in cells.items()}}


def start_decoder(run: StageRun, features: Values, specific: Values, conditions: Values) -> dict[str, Any]:
    """Fit what has a closed form in decoders of representations that are finished."""
    train = run.rows.train
    for name, encoder_decoder in run.module.encoder_decoders.items():
        encoder_decoder.start_decoder(features[name][train], specific[name][train], conditions[name][train])
    return {}


def learn_decoder(run: StageRun, features: Values, specific: Values, conditions: Values) -> dict[str, Any]:
    """Train the refinement of the decoder; the representations stay as they are."""
    module = run.module
    with torch.no_grad():
        cells = {
            name: {
                "features": features[name],
                "condition": conditions[name],
                "specific": specific[name],
                "closed": encoder_decoder.decode_closed(specific[name], conditions[name]),
            }
            for name, encoder_decoder in module.encoder_decoders.items()
        }
    parts = {name: encoder_decoder.refinement for name, encoder_decoder in module.encoder_decoders.items()}
    run.fit_regression("decoder", parts, module.decoding_error, cells, smallest_gain=1e-3)
    return {}


def fit_joint(run: StageRun, specific: Values, conditions: Values) -> dict[str, Any]:
    """Fit the joint representation: principal components of what all representations of some training cells decode to."""
    module, rows = run.module, some_rows(run.rows.train)
    with torch.no_grad():
        decoded = module.join(
            {name: latent[rows] for name, latent in specific.items()},
            {name: condition[rows] for name, condition in conditions.items()},
        )
    module.joint.fit(decoded)
    return {}


def _has_conditional_start(module: IndiSeekModule) -> bool:
    return len(_conditional_encoder_decoders(module)) == len(module.modalities)


LATENTS = ("features", "specific", "conditions")

SHARED = Stage("shared", learn_shared, ("features", "design"), learns=True)
NEW_ENCODERS = Stage("new encoders", reset_encoders, ())

NEW_CODECS = Stage("new encoder-decoders", reset_encoder_decoders, ())
KEPT_START = Stage("kept start", reset_after_start, ())
CONDITIONS = Stage("conditions", compute_conditions, ("features", "design"), ("conditions",))
CODECS = Stage("encoder_decoders", fit_encoder_decoders, ("features", "conditions"))
WHITENING = Stage("whitening", fit_whitening, ("features", "conditions"), is_needed=_has_conditional_start)
FLOW = Stage("flow", train_flow, ("features", "conditions"), learns=True, is_needed=_has_conditional_start)
FROZEN_START = Stage("frozen start", freeze_start, ("features", "conditions"), is_needed=_has_conditional_start)
PREPARATION = Stage("preparation", prepare_cells, ("features", "conditions"), ("cells",))
CRITICS = Stage("critics", learn_critics, ("cells",), ("dependent",), learns=True)
SPECIFIC = Stage(
    "specific",
    learn_specific,
    ("features", "design", "conditions", "cells", "lambda_", "dependent"),
    ("conditions", "cells"),
    learns=True,
    is_needed=lambda module: bool(module.learners()),
)
SPECIFIC_LATENTS = Stage("specific representations", encode_cells, ("cells",), ("specific",))
DECODER_START = Stage("decoder start", start_decoder, LATENTS)
DECODER = Stage(
    "decoder",
    learn_decoder,
    LATENTS,
    learns=True,
    is_needed=lambda module: all(encoder_decoder.is_refined for encoder_decoder in module.encoder_decoders.values()),
)
JOINT = Stage("joint", fit_joint, ("specific", "conditions"))

NEW_START = (NEW_CODECS, CONDITIONS, CODECS, WHITENING, FLOW, FROZEN_START, PREPARATION, CRITICS)
"""From shared representations to specific representations that no critic has changed yet."""

FORMER_START = (KEPT_START, CONDITIONS, PREPARATION, CRITICS)
"""The same from a conditional whitening and shape that are there."""

FINISH = (SPECIFIC_LATENTS, DECODER_START, DECODER, JOINT)
"""From finished specific representations to decoders and the joint representation."""
