from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.losses import CriticSum, IndependenceCritic
from indiseek_sc.model import _stages
from indiseek_sc.model._run_stages import Stage, run_stages
from indiseek_sc.model._stages import (
    FINISH,
    NEW_START,
    REUSED_START,
    SHARED,
    SPECIFIC,
    _count_critic_epochs,
    explains,
    find_dependence,
    find_information,
    learn_critics,
    learn_specific,
    needs_flow,
    train_flow,
)
from indiseek_sc.module import Optimisation
from indiseek_sc.nn import ConditionalEncoderDecoder
from indiseek_sc.train import Rows

ROWS = Rows(torch.arange(0, 100), torch.arange(100, 200))


class Flow:
    """A flow with a given information of the condition (the first two values) in nats."""

    def __init__(self, information: float) -> None:
        self.information = information
        self.is_disabled = False

    def negative_log_likelihood(self, values: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return 5 - 2 * (self.information + values[:, 2]) * (condition == values[:, :2]).all(dim=1)

    def disable(self) -> None:
        self.is_disabled = True


class WhitenedAlready(ConditionalEncoderDecoder):
    """An encoder-decoder whose whitening changes nothing."""

    def __init__(self, flow: Flow) -> None:
        torch.nn.Module.__init__(self)
        self.flow = flow

    def whitened(self, features: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return features


@pytest.mark.parametrize(
    ("information", "reason", "is_disabled"),
    [(1.0, None, False), (0.0, None, True), (0.04, None, True), (-1.0, None, True), (1.0, "stopped", True)],
)
def test_flows_are_discarded_unless_the_condition_is_informative(information, reason, is_disabled, monkeypatch):
    monkeypatch.setattr(_stages, "needs_flow", lambda *_: True)
    flows = {role: Flow(information) for role in ROLES}
    stages_run = []

    class Run:
        seed = 0
        module = SimpleNamespace(
            modalities=ROLES, encoder_decoders={role: WhitenedAlready(flows[role]) for role in ROLES}
        )
        rows = ROWS
        reason = None

        def fit_regression(self, stage, parts, loss, cells, *, smallest_gain, patience):
            stages_run.append(stage)
            assert parts == flows
            self.reason = reason

    values = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    values[100:, 2] -= values[100:, 2].mean()
    run = Run()
    assert train_flow(run, dict.fromkeys(ROLES, values), dict.fromkeys(ROLES, values[:, :2])) == {}
    assert run.reason == reason
    assert [flows[role].is_disabled for role in ROLES] == [is_disabled] * 2
    assert stages_run == ["flow"]


@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.6])
def test_information_of_gaussians_is_half_their_jeffreys_divergence(correlation):
    class Gaussian:
        """The true conditional density instead of a trained one."""

        def negative_log_likelihood(self, values, condition):
            return (values - correlation * condition).square().sum(dim=1) / (2 * (1 - correlation**2))

    condition, noise = torch.randn(2, 40_000, 1, generator=torch.Generator().manual_seed(0))
    values = correlation * condition + math.sqrt(1 - correlation**2) * noise
    information, error = find_information(Gaussian(), values, condition, seed=0)
    assert information == pytest.approx(correlation**2 / (1 - correlation**2) / 2, abs=4 * error + 1e-12)
    assert error < 0.01


def test_stages_receive_inputs_and_pass_on_outputs():
    def add(run, first, second):
        return {"sum": first + second}

    def square(run, sum):
        return {"first": sum**2}

    run = SimpleNamespace(module=None, reason=None, options=None)
    stages = (Stage("add", add, ("first", "second"), ("sum",)), Stage("square", square, ("sum",), ("first",)))
    given = {"first": 1, "second": 2, "design": ()}
    assert run_stages(stages, run, given) == {"first": 9, "second": 2, "sum": 3, "design": ()}
    assert given == {"first": 1, "second": 2, "design": ()}


def test_after_an_early_end_only_closed_forms_are_computed():
    finished = []

    def make(name, reason=None):
        def run_stage(run):
            finished.append(name)
            run.reason = run.reason or reason
            return {}

        return run_stage

    stages = (
        Stage("unneeded", make("unneeded"), (), is_needed=lambda module: module == "another"),
        Stage("first", make("first"), (), learns=True),
        Stage("interrupted", make("interrupted", "stopped"), (), learns=True),
        Stage("closed form", make("closed form"), ()),
        Stage("last", make("last"), (), learns=True),
    )
    run_stages(stages, SimpleNamespace(module="one", reason=None, options=None), {"design": ()})
    assert finished == ["first", "interrupted", "closed form"]


@pytest.mark.parametrize("start", [NEW_START, REUSED_START])
def test_every_input_of_a_stage_is_available(start):
    known = {"features", "design", "lambda_"}
    for stage in (SHARED, *start, SPECIFIC, *FINISH):
        assert set(stage.inputs) <= known, stage.name
        known |= set(stage.outputs)


@pytest.mark.parametrize(
    ("max_epochs", "critics_learn", "expected"),
    [
        (None, True, (40, 10, 200)),  # critic-only epochs are added by default
        (None, False, (40, 0, 0)),
        (0, True, (0, 0, 0)),
        (1, True, (1, 0, 0)),
        (2, True, (1, 1, 20)),
        (5, True, (3, 2, 40)),
        (20, True, (10, 10, 200)),
        (100, True, (90, 10, 200)),
        (7, False, (7, 0, 0)),
    ],
)
def test_max_epochs_includes_critic_only_epochs(max_epochs, critics_learn, expected):
    optimisation = Optimisation(gate_critics=False, n_critic_steps=4, n_critic_warmup_steps=200, max_epochs_specific=40)
    options = SimpleNamespace(
        optimisation=optimisation, max_epochs={} if max_epochs is None else {"specific": max_epochs}
    )
    run = SimpleNamespace(options=options, module=SimpleNamespace(critics_learn=critics_learn))
    assert _count_critic_epochs(run, steps_per_epoch=5) == expected


# Detection of dependence


def draw_pair(kind: str, seed: int, n_cells: int = 2400) -> tuple[torch.Tensor, torch.Tensor, Rows]:
    """Draw representations with four columns, conditions with two, and a split."""
    generator = torch.Generator().manual_seed(seed)
    condition = torch.randn(n_cells, 2, generator=generator)
    latents = torch.randn(n_cells, 4, generator=generator)
    if kind == "skewed":
        # The condition determines the side of the tail of a factor, mixed into two columns.
        tail = torch.empty(n_cells).exponential_(generator=generator) - 1
        latents[:, 0] = tail * condition[:, 0].sign()
        latents[:, :2] = latents[:, :2] @ torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    elif kind == "linear":
        latents[:, 1] += 0.5 * condition[:, 0]
    elif kind == "shifted":
        latents[:, 1] += 0.5 * condition[:, 0].square()
    return latents, condition, Rows(torch.arange(0, 1800), torch.arange(1800, n_cells))


@pytest.mark.parametrize("kind", ["skewed", "shifted"])
def test_dependence_is_detected(kind):
    for seed in range(5):
        latents, condition, rows = draw_pair(kind, seed)
        assert needs_flow(latents, condition, rows)


@pytest.mark.slow  # draws forty data sets
def test_false_positives_are_rare():
    found = [needs_flow(*draw_pair("independent", seed)) for seed in range(40)]
    assert sum(found) <= 4
    found = [explains(*draw_pair("independent", seed)) for seed in range(40)]
    assert sum(found) <= 2


class Recall(IndependenceCritic):
    """A critic whose bound is a covariance."""

    def bound(self, specific: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        centred = specific - specific.mean(dim=0)
        return (centred[:, : condition.shape[1]] * (condition - condition.mean(dim=0))).mean()


def test_a_bound_counts_if_it_is_positive_in_blocks_of_cells():
    critic = CriticSum({"recall": Recall()})
    generator = torch.Generator().manual_seed(0)
    found = {}
    for share in (0.0, 0.5):
        pairs = [torch.randn(2, 300, 3, generator=generator) for _ in range(40)]
        found[share] = [find_dependence(critic, x, share * x + y) for x, y in pairs]
    assert sum(found[0.0]) <= 2
    assert all(found[0.5])


def make_run(names: dict[str, torch.Tensor], gate: bool, learn: bool = True) -> tuple[SimpleNamespace, dict]:
    """Return a run whose critics are not trained, and cells with fixed representations."""
    latents, condition, rows = (dict(zip(ROLES, x, strict=True)) for x in zip(*names.values(), strict=True))
    cells = {role: {"against": condition[role], "latents": latents[role]} for role in ROLES}
    module = SimpleNamespace(
        modalities=ROLES,
        critics_learn=learn,
        critics={role: CriticSum({"recall": Recall()}) for role in ROLES},
        encode_prepared=lambda role, x: x["latents"],
    )
    run = SimpleNamespace(
        module=module,
        rows=rows["rna"],
        names={"rna": "rna", "adt": "adt"},
        options=SimpleNamespace(optimisation=Optimisation(gate_critics=gate)),
        stages=[],
    )
    run.fit_regression = lambda stage, *_, **__: run.stages.append(stage)
    return run, cells


def test_only_dependent_modalities_are_trained_adversarially():
    run, cells = make_run({"rna": draw_pair("independent", 0), "adt": draw_pair("linear", 0)}, gate=True)
    assert learn_critics(run, cells) == {"dependent": ("adt",)}
    assert run.stages == ["critics"]
    run, cells = make_run({"rna": draw_pair("independent", 0), "adt": draw_pair("independent", 1)}, gate=True)
    assert learn_critics(run, cells) == {"dependent": ()}
    kept = {"conditions": 1, "cells": cells}
    assert learn_specific(run, {}, None, 1, cells, 1.0, ()) == kept  # nothing is trained
    for gate, learn in ((False, True), (True, False)):
        run, cells = make_run({"rna": draw_pair("independent", 0), "adt": draw_pair("linear", 0)}, gate, learn)
        assert learn_critics(run, cells) == {"dependent": ROLES}
        assert run.stages == []
