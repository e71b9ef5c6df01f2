"""Properties of all critics: detected dependence, scales, gradients and degenerate inputs."""

from __future__ import annotations

import pytest
import torch

from indiseek_sc.losses import CRITICS, IndependenceCritic

SIZES = {"hsic": {}, "distance_correlation": {}}
"""Options of critics other than the number of hidden units."""

NOT_ESTIMATORS = {"orthogonality", "none"}
"""Terms of baselines and ablations: one is not 0 at independence, the other is always 0."""


def draw(case: str, n_cells: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw two dimensions of representation and one of condition, each of mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, n_cells, 2, generator=generator)
    level = torch.randint(0, 2, (n_cells, 1), generator=generator) * 2.0 - 1.0
    match case:
        case "independent":
            return first, level
        case "linear":
            return 0.6 * level + 0.8 * first, level
        case "variance":
            return first * (1 + 0.69 * level).sqrt(), level
        case "correlation":  # the sign of a correlation of 0.9
            return torch.stack([first[:, 0], 0.9 * level[:, 0] * first[:, 0] + 0.19**0.5 * second[:, 0]], dim=1), level
        case "shape":  # one peak or two
            return torch.where(level > 0, first, 0.95 * second.sign() + 0.0975**0.5 * first), level
        case "spread":  # the variance of the condition depends on the representation
            return first, second[:, :1] * torch.where(first[:, :1].abs() > 0.6745, 1.34, 0.45)
    raise ValueError(case)


def make(name: str) -> IndependenceCritic:
    torch.manual_seed(0)
    return CRITICS[name](2, 1, **SIZES.get(name, {"n_hidden": 24}))


def train(critic: IndependenceCritic, case: str, n_steps: int = 120) -> IndependenceCritic:
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2) if critic.learns else None
    for step in range(n_steps if optimizer else 0):
        optimizer.zero_grad()
        critic.critic_loss(*draw(case, 96, seed=step)).backward()
        optimizer.step()
    return critic


def held_out_bound(critic: IndependenceCritic, case: str) -> float:
    with torch.no_grad():
        return critic.bound(*draw(case, 1000, seed=10_000)).item()


# Kinds of dependence that a critic detects (+), detects weakly at this size (.), or misses (-).
CASES = "linear", "variance", "correlation", "shape", "spread"
DETECTED = {
    "gaussian": "++--+",
    "gaussian_full": "+++-+",
    "mixture": "+++++",
    "nce": "+++++",
    "nce_concatenated": "+++++",
    "leave_one_out": "++--+",
    "hsic": "+++..",
    "distance_correlation": "+++..",
    "adversarial": "++++-",
}
SLOW = {"nce_concatenated": ("independent", "linear", "variance", "shape", "spread")}


def test_the_table_contains_every_critic():
    assert {*DETECTED, "gaussian_bounded", *NOT_ESTIMATORS} == set(CRITICS)


@pytest.mark.parametrize(
    ("name", "case", "sign"),
    [
        pytest.param(name, case, sign, marks=[pytest.mark.slow] if case in SLOW.get(name, ()) else [])
        for name, signs in DETECTED.items()
        for case, sign in zip(("independent", *CASES), f"-{signs}", strict=True)
    ],
)
def test_each_critic_detects_the_expected_kinds_of_dependence(name, case, sign):
    bound = held_out_bound(train(make(name), case), case)
    lowest, highest = {"+": (0.04, 10.0), ".": (-0.01, 0.04), "-": (-0.02, 0.02)}[sign]
    assert lowest < bound < highest


@pytest.mark.parametrize("name", ["gaussian", "gaussian_full", "mixture", "nce", "leave_one_out", "adversarial"])
def test_the_bound_of_an_outdated_critic_is_too_low(name):
    critic = make(name)
    untrained = held_out_bound(critic, "linear")
    trained = held_out_bound(train(critic, "linear"), "linear")
    assert trained > untrained + 0.2
    latent, condition = draw("linear", 1000, seed=10_000)
    with torch.no_grad():
        # The negative representation is equally informative, but was not seen in training.
        assert critic.bound(-latent, condition).item() < -0.2


@pytest.mark.parametrize("name", ["gaussian", "nce", "adversarial"])
def test_accuracy_is_above_chance_only_for_dependent_data(name):
    critic = make(name)
    train(critic, "linear")
    with torch.no_grad():
        assert critic.diagnostics(*draw("linear", 1000, seed=10_000))["accuracy"].item() > 0.62
        assert critic.diagnostics(*draw("independent", 1000, seed=10_000))["accuracy"].item() == pytest.approx(
            0.5, abs=0.03
        )


@pytest.mark.parametrize("name", ["hsic", "distance_correlation"])
def test_kernel_terms_are_invariant_to_scale(name):
    critic = make(name)
    latent, condition = draw("variance", 200, seed=0)
    torch.testing.assert_close(
        critic.bound(1e-3 * latent, 50 * condition), critic.bound(latent, condition), rtol=1e-3, atol=0
    )


def test_adversarial_critic_is_invariant_to_the_scale_of_the_condition():
    critic = make("adversarial")
    latent, condition = draw("linear", 200, seed=0)
    expected = critic.bound(latent, condition)
    with torch.no_grad():
        critic.network[-1].weight *= 1e3
        critic.network[-1].bias *= 1e3
    torch.testing.assert_close(critic.bound(latent, 1e3 * condition), expected)
    loss = critic.critic_loss(latent, 1e3 * condition)
    assert loss.item() == pytest.approx(0.5, rel=0.5)  # of the order of the unexplained share of variance


def test_density_bound_is_unchanged_if_critic_and_representation_are_rescaled_together():
    critic = make("gaussian")
    latent, condition = draw("linear", 200, seed=0)
    expected = critic.bound(latent, condition).item()
    assert critic.bound(10 * latent, condition).item() != pytest.approx(expected, rel=0.5)
    with torch.no_grad():
        critic.network[-1].weight[:2] *= 10
        critic.network[-1].bias[:2] *= 10
        critic.network[-1].bias[2:] += 2 * torch.tensor(10.0).log()
    assert critic.bound(10 * latent, condition).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", [name for name in CRITICS if name not in NOT_ESTIMATORS])
def test_the_bound_of_a_single_cell_is_zero(name):
    critic = make(name)
    latent, condition = draw("linear", 1, seed=0)
    assert critic.bound(latent, condition).item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(critic.critic_loss(latent, condition))
    assert all(value.item() == 0.5 for value in critic.diagnostics(latent, condition).values())


@pytest.mark.parametrize("name", [name for name in CRITICS if name not in NOT_ESTIMATORS])
@pytest.mark.parametrize("constant", ["latent", "condition", "both", "a column"])
def test_constant_inputs_give_finite_gradients_and_no_dependence(name, constant):
    critic = make(name)
    latent, condition = draw("linear", 50, seed=0)
    if constant in ("latent", "both"):
        latent = torch.full_like(latent, 0.3)
    if constant in ("condition", "both"):
        condition = torch.full_like(condition, 7.7)
    if constant == "a column":
        latent = latent.clone()
        latent[:, 1] = 0.0
    latent.requires_grad_()
    bound = critic.bound(latent, condition)
    loss = critic.critic_loss(latent, condition)
    gradients = torch.autograd.grad(bound, latent, retain_graph=True)
    if critic.learns:
        gradients += torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
    assert all(torch.isfinite(x).all() for x in (bound, loss, *gradients))
    if constant == "a column":
        return
    # With a constant representation, an untrained regression predicts worse than the mean, and
    # the leave-one-out bound compares densities that differ between conditions: both are below 0.
    is_below = constant == "latent" and name in ("adversarial", "leave_one_out")
    assert -0.2 < bound.item() < 0 if is_below else bound.item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in CRITICS if name not in NOT_ESTIMATORS])
def test_duplicated_cells_give_finite_gradients(name):
    critic = make(name)
    latent, condition = (x.repeat(3, 1) for x in draw("linear", 10, seed=0))
    latent.requires_grad_()
    critic.bound(latent, condition).backward()
    assert torch.isfinite(latent.grad).all()
    assert latent.grad.abs().sum() > 0
    torch.testing.assert_close(latent.grad[:10], latent.grad[10:20])


@pytest.mark.parametrize("name", [name for name in CRITICS if name not in NOT_ESTIMATORS])
def test_bounds_depend_on_the_pairing_but_not_on_the_order_of_cells(name):
    critic = make(name)
    latent, condition = draw("linear", 50, seed=0)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    expected = critic.bound(latent, condition)
    torch.testing.assert_close(critic.bound(latent[order], condition[order]), expected, rtol=1e-4, atol=1e-6)
    assert abs(critic.bound(latent[order], condition) - expected) > 1e-4


@pytest.mark.parametrize("name", [name for name in CRITICS if name not in NOT_ESTIMATORS])
def test_gradients_agree_with_finite_differences(name):
    critic = make(name).double()
    latent, condition = (x.double() for x in draw("linear", 12, seed=3))
    options = {"bandwidth": 1.3} if name == "hsic" else {}  # no gradient is propagated through the median
    critic = CRITICS[name](2, 1, **options) if options else critic
    assert torch.autograd.gradcheck(lambda x: critic.bound(x, condition), latent.requires_grad_(), atol=1e-4)
