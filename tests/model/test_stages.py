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
    FORMER_START,
    NEW_START,
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


class Shape:
    """Stands for splines to which a cell's own condition, its first two values, tells so many nats, give or take one."""

    def __init__(self, told: float) -> None:
        self.told = told
        self.given_up = False

    def negative_log_likelihood(self, values: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return 5 - 2 * (self.told + values[:, 2]) * (condition == values[:, :2]).all(dim=1)

    def give_up(self) -> None:
        self.given_up = True


class WhitenedAlready(ConditionalEncoderDecoder):
    """Stands for an encoder-decoder whose whitening changes nothing."""

    def __init__(self, shape: Shape) -> None:
        torch.nn.Module.__init__(self)
        self.shape = shape

    def whitened(self, features: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return features


@pytest.mark.parametrize(
    ("told", "reason", "given_up"),
    [(1.0, None, False), (0.0, None, True), (0.04, None, True), (-1.0, None, True), (1.0, "stopped", True)],
)
def test_shapes_are_bent_only_where_the_condition_tells_of_them(told, reason, given_up, monkeypatch):
    monkeypatch.setattr(_stages, "needs_flow", lambda *_: True)
    shapes = {role: Shape(told) for role in ROLES}
    stages_run = []

    class Run:
        seed = 0
        module = SimpleNamespace(
            modalities=ROLES, encoder_decoders={role: WhitenedAlready(shapes[role]) for role in ROLES}
        )
        rows = ROWS
        reason = None

        def fit_regression(self, stage, parts, loss, cells, *, smallest_gain, patience):
            stages_run.append(stage)
            assert parts == shapes
            self.reason = reason

    values = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    values[100:, 2] -= values[100:, 2].mean()
    run = Run()
    assert train_flow(run, dict.fromkeys(ROLES, values), dict.fromkeys(ROLES, values[:, :2])) == {}
    assert run.reason == reason
    assert [shapes[role].given_up for role in ROLES] == [given_up] * 2
    assert stages_run == ["flow"]


@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.6])
def test_information_of_gaussians_is_half_their_jeffreys_divergence(correlation):
    class Gaussian:
        """The true conditional density, in the place of a trained one."""

        def negative_log_likelihood(self, values, condition):
            return (values - correlation * condition).square().sum(dim=1) / (2 * (1 - correlation**2))

    condition, noise = torch.randn(2, 40_000, 1, generator=torch.Generator().manual_seed(0))
    values = correlation * condition + math.sqrt(1 - correlation**2) * noise
    information, error = find_information(Gaussian(), values, condition, seed=0)
    assert information == pytest.approx(correlation**2 / (1 - correlation**2) / 2, abs=4 * error + 1e-12)
    assert error < 0.01


def test_stages_read_their_inputs_and_leave_their_outputs_to_those_behind():
    def add(run, first, second):
        return {"sum": first + second}

    def square(run, sum):
        return {"first": sum**2}

    run = SimpleNamespace(module=None, reason=None, options=None)
    stages = (Stage("add", add, ("first", "second"), ("sum",)), Stage("square", square, ("sum",), ("first",)))
    given = {"first": 1, "second": 2, "design": ()}
    assert run_stages(stages, run, given) == {"first": 9, "second": 2, "sum": 3, "design": ()}
    assert given == {"first": 1, "second": 2, "design": ()}


def test_what_learns_is_left_out_once_a_stage_ended_early_and_closed_forms_are_not():
    taken = []

    def take(name, reason=None):
        def run_stage(run):
            taken.append(name)
            run.reason = run.reason or reason
            return {}

        return run_stage

    stages = (
        Stage("unneeded", take("unneeded"), (), is_needed=lambda module: module == "another"),
        Stage("first", take("first"), (), learns=True),
        Stage("broken off", take("broken off", "stopped"), (), learns=True),
        Stage("closed form", take("closed form"), ()),
        Stage("last", take("last"), (), learns=True),
    )
    run_stages(stages, SimpleNamespace(module="one", reason=None, options=None), {"design": ()})
    assert taken == ["first", "broken off", "closed form"]


@pytest.mark.parametrize("start", [NEW_START, FORMER_START])
def test_every_input_of_a_stage_is_there_before_it(start):
    known = {"features", "design", "lambda_"}
    for stage in (SHARED, *start, SPECIFIC, *FINISH):
        assert set(stage.inputs) <= known, stage.name
        known |= set(stage.outputs)


@pytest.mark.parametrize(
    ("max_epochs", "critics_learn", "expected"),
    [
        (None, True, (40, 10, 200)),  # epochs of the encoders; those of critics alone come on top
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
def test_a_number_of_epochs_that_is_given_holds_for_critics_alone_too(max_epochs, critics_learn, expected):
    optimisation = Optimisation(gate_critics=False, n_critic_steps=4, n_critic_warmup_steps=200, max_epochs_specific=40)
    options = SimpleNamespace(
        optimisation=optimisation, max_epochs={} if max_epochs is None else {"specific": max_epochs}
    )
    run = SimpleNamespace(options=options, module=SimpleNamespace(critics_learn=critics_learn))
    assert _count_critic_epochs(run, steps_per_epoch=5) == expected


# What is left to be learned


def draw_pair(kind: str, seed: int, n_cells: int = 2400) -> tuple[torch.Tensor, torch.Tensor, Rows]:
    """Representations of four columns, a condition of two, and which cells are learned from."""
    generator = torch.Generator().manual_seed(seed)
    condition = torch.randn(n_cells, 2, generator=generator)
    latents = torch.randn(n_cells, 4, generator=generator)
    if (
        kind == "skewed"
    ):  # the condition decides on which side the long tail of a hidden factor is; two columns hold a part of it
        tail = torch.empty(n_cells).exponential_(generator=generator) - 1
        latents[:, 0] = tail * condition[:, 0].sign()
        latents[:, :2] = latents[:, :2] @ torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    elif kind == "linear":
        latents[:, 1] += 0.5 * condition[:, 0]
    elif kind == "shifted":
        latents[:, 1] += 0.5 * condition[:, 0].square()
    return latents, condition, Rows(torch.arange(0, 1800), torch.arange(1800, n_cells))


@pytest.mark.parametrize("kind", ["skewed", "shifted"])
def test_dependence_is_found_where_there_is_some(kind):
    for seed in range(5):
        latents, condition, rows = draw_pair(kind, seed)
        assert needs_flow(latents, condition, rows)


def test_chance_is_seldom_taken_for_dependence():
    found = [needs_flow(*draw_pair("independent", seed)) for seed in range(40)]
    assert sum(found) <= 4
    found = [explains(*draw_pair("independent", seed)) for seed in range(40)]
    assert sum(found) <= 2


class Recall(IndependenceCritic):
    """A critic whose bound is a covariance."""

    def bound(self, specific: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        centred = specific - specific.mean(dim=0)
        return (centred[:, : condition.shape[1]] * (condition - condition.mean(dim=0))).mean()


def test_a_bound_counts_where_blocks_of_cells_agree_that_it_is_above_zero():
    critic = CriticSum({"recall": Recall()})
    generator = torch.Generator().manual_seed(0)
    found = {}
    for share in (0.0, 0.5):
        pairs = [torch.randn(2, 300, 3, generator=generator) for _ in range(40)]
        found[share] = [find_dependence(critic, x, share * x + y) for x, y in pairs]
    assert sum(found[0.0]) <= 2
    assert all(found[0.5])


def make_run(names: dict[str, torch.Tensor], gate: bool, learn: bool = True) -> tuple[SimpleNamespace, dict]:
    """A run whose critics learn nothing, and cells whose representations stand still."""
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


def test_critics_learn_alone_and_only_dependent_modalities_move():
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
