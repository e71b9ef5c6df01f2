"""The stages of training, each with named inputs and outputs, and the order in which they run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from indiseek_sc.model._evidence import SMALLEST_INFORMATION, explains, find_dependence, find_information, needs_flow
from indiseek_sc.model._run_stages import Stage
from indiseek_sc.model._shared import learn_shared, reset_encoders, some_rows
from indiseek_sc.module import IndiSeekModule
from indiseek_sc.nn import ConditionalEncoderDecoder
from indiseek_sc.train import KeepBest, LeakProbe, SpecificPlan, StageData, warn_of_negative_bounds

if TYPE_CHECKING:
    from indiseek_sc._keys import Role
    from indiseek_sc.model._runs import StageRun

    Values = Mapping[Role, Tensor]

logger = logging.getLogger("scvi.indiseek_sc")

PATIENCE_OF_SPLINES = 10
"""Epochs without an increase of the validation likelihood after which splines stop training."""

PATIENCE_OF_CRITICS = 5
"""Epochs without a decrease of the validation loss after which critics stop training alone."""


# Stage 2 before the critics


def reset_encoder_decoders(run: StageRun) -> dict[str, Any]:
    """Reinitialise encoder-decoders and critics, and freeze what stage 2 must not change."""
    module = run.module
    module.reset_specific()
    module.to(run.options.device.torch)
    module.frozen = module.frozen_in_specific
    return {}


def reset_after_start(run: StageRun) -> dict[str, Any]:
    """Reinitialise the encoder-decoders except for conditional whitening and normalizing flow."""
    kept = {name: encoder_decoder.start_state() for name, encoder_decoder in run.module.encoder_decoders.items()}
    reset_encoder_decoders(run)
    for name, encoder_decoder in run.module.encoder_decoders.items():
        encoder_decoder.load_state_dict(kept[name], strict=False)
    return {}


@torch.no_grad()
def compute_conditions(run: StageRun, features: Values, design: Tensor) -> dict[str, Any]:
    """Compute the condition of stage 2: the shared representations and covariates of each cell."""
    module = run.module
    return {
        "conditions": {name: module.condition(name, module.shared(name, x), design) for name, x in features.items()}
    }


def fit_encoder_decoders(run: StageRun, features: Values, conditions: Values) -> dict[str, Any]:
    """Fit the parts of the encoder-decoders that have a closed-form solution.

    These are the regression on the condition, the principal axes of the residual, and scales.
    """
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
    """Fit the conditional mean and covariance of the residual, and drop low-variance dimensions."""
    fitted_on, chosen_by = some_rows(run.rows.train), some_rows(run.rows.validation)
    rows = torch.cat([fitted_on, chosen_by])
    for name, encoder_decoder in _conditional_encoder_decoders(run.module).items():
        encoder_decoder.fit_whitening(features[name][rows], conditions[name][rows], len(fitted_on))
    return {}


def train_flow(run: StageRun, features: Values, conditions: Values) -> dict[str, Any]:
    """Train conditional normalizing flows (splines), and discard those that do not help.

    No flow is trained for a modality if a preliminary test finds that the distribution of the
    whitened residual does not depend on the condition. For trained flows, :func:`find_information`
    estimates on validation cells the information of the condition about this distribution. If it is
    small or within chance, conditional splines would add more dependence than they remove, and the
    flow is discarded.
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
            encoder_decoder.flow.disable()
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
            spline.disable()
    return {}


def freeze_start(run: StageRun, features: Values, conditions: Values) -> dict[str, Any]:
    """Store the moments of the initial specific representations over the training cells."""
    train = run.rows.train
    for name, encoder_decoder in _conditional_encoder_decoders(run.module).items():
        encoder_decoder.freeze_start(features[name][train], conditions[name][train])
    return {}


@torch.no_grad()
def prepare_cells(run: StageRun, features: Values, conditions: Values) -> dict[str, Any]:
    """Compute inputs of adversarial training and the statistics that standardise its outputs."""
    module = run.module
    module.eval()  # new parts are in training mode, in which dropout would add noise
    cells = {name: module.prepare_specific(name, features, conditions) for name in module.modalities}
    _freeze_statistics(run, cells)
    return {"cells": cells}


def _freeze_statistics(run: StageRun, cells: Mapping[Role, Mapping[str, Tensor]]) -> None:
    """Compute the statistics of training cells that standardise the specific representations."""
    for name, encoder_decoder in run.module.encoder_decoders.items():
        rows = {key: x[run.rows.train] for key, x in cells[name].items()}
        encoder_decoder.freeze_statistics(rows, rows["condition"])


# Stage 2 from the critics on


def learn_critics(run: StageRun, cells: Mapping[Role, Mapping[str, Tensor]]) -> dict[str, Any]:
    """Train the critics on fixed representations, and return the dependent modalities.

    A modality is returned if its critic or a closed-form probe finds dependence on validation cells
    that exceeds chance. If the critics have no parameters to train, or with ``gate_critics=False``,
    all modalities are returned and nothing is trained.
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
    names = ", ".join(run.names[name] for name in dependent)
    logger.info(
        f"Specific encoders to be trained in stage 2: {names or 'none'} (those whose initial representations depend on "
        "the other modality, according to critics and probes on validation cells)."
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
    """Train specific representations and critics of the dependent modalities adversarially."""
    module, rows, o = run.module, run.rows, run.options.optimisation
    if not dependent:
        return {"conditions": conditions, "cells": cells}
    data = StageData(
        {name: dict(cells[name]) for name in dependent},
        rows.train,
        rows.validation,
        batch_size=o.specific_batch_size,
        validation_batch_size=o.specific_batch_size,  # losses and bounds depend on the batch size
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
        # No early stopping: dependence is lowest at the end of the learning-rate schedule, and the
        # probe does not detect all of it.
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
    """Return the numbers of encoder epochs, critic-only epochs before them, and critic-only steps.

    If the user gave a number of epochs, it is the total, of which at most half are critic-only.
    """
    o, given = run.options.optimisation, run.options.max_epochs.get("specific")
    # With gate_critics, learn_critics has already trained the critics.
    n_warmup_steps = o.n_critic_warmup_steps if run.module.critics_learn and not o.gate_critics else 0
    steps = o.n_critic_steps * steps_per_epoch
    n_alone = -(-n_warmup_steps // steps)
    if given is None:
        return o.max_epochs_specific, n_alone, n_warmup_steps
    n_alone = min(n_alone, given // 2)
    return given - n_alone, n_alone, min(n_warmup_steps, n_alone * steps)


def encode_cells(run: StageRun, cells: Mapping[Role, Mapping[str, Tensor]]) -> dict[str, Any]:
    """Compute the final specific representations."""
    with torch.no_grad():
        return {"specific": {name: run.module.encode_prepared(name, x) for name, x in cells.items()}}


def start_decoder(run: StageRun, features: Values, specific: Values, conditions: Values) -> dict[str, Any]:
    """Fit the closed-form parts of the decoders to the final representations."""
    train = run.rows.train
    for name, encoder_decoder in run.module.encoder_decoders.items():
        encoder_decoder.start_decoder(features[name][train], specific[name][train], conditions[name][train])
    return {}


def learn_decoder(run: StageRun, features: Values, specific: Values, conditions: Values) -> dict[str, Any]:
    """Train the neural refinement of the decoders; the representations are not changed."""
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
    """Fit the joint representation: principal components of reconstructions of training cells."""
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

NEW_ENCODER_DECODERS = Stage("new encoder-decoders", reset_encoder_decoders, ())
KEPT_START = Stage("kept start", reset_after_start, ())
CONDITIONS = Stage("conditions", compute_conditions, ("features", "design"), ("conditions",))
ENCODER_DECODERS = Stage("encoder-decoders", fit_encoder_decoders, ("features", "conditions"))
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

NEW_START = (NEW_ENCODER_DECODERS, CONDITIONS, ENCODER_DECODERS, WHITENING, FLOW, FROZEN_START, PREPARATION, CRITICS)
"""Stages from shared to initial specific representations, before adversarial training."""

REUSED_START = (KEPT_START, CONDITIONS, PREPARATION, CRITICS)
"""The same stages, but with the conditional whitening and flow of an earlier training."""

FINISH = (SPECIFIC_LATENTS, DECODER_START, DECODER, JOINT)
"""Stages from final specific representations to decoders and the joint representation."""
