"""Construction of critics from names, classes and functions."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from indiseek_sc.losses import (
    CRITICS,
    CriticSum,
    HSICCritic,
    IndependenceCritic,
    NCECritic,
    check_independence,
    make_critic,
)


class MeanProduct(IndependenceCritic):
    """User-defined term without a name."""

    def __init__(self, n_specific: int, n_condition: int) -> None:
        super().__init__()

    def bound(self, specific: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return (specific[:, 0] * condition[:, 0]).mean()


class WithoutLoss(IndependenceCritic):
    """Critic with parameters that does not define its loss."""

    def __init__(self, n_specific: int, n_condition: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(n_specific, n_condition))

    def bound(self, specific: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return (specific @ self.weight * condition).sum(dim=1).mean()


def return_none(n_specific: int, n_condition: int) -> None: ...


small_nce = partial(NCECritic, n_hidden=8)


@pytest.mark.parametrize("name", list(CRITICS))
def test_each_name_builds_its_critic(name):
    critics = make_critic(name, 3, 2)
    assert list(critics.critics) == [name]
    assert critics.critics[name].name in (name, "gaussian")  # gaussian_bounded is a GaussianCritic with an option
    assert critics.learns is (name not in ("hsic", "distance_correlation", "orthogonality", "none"))
    check_independence(name)


@pytest.mark.parametrize(
    ("independence", "names"),
    [
        (MeanProduct, ["MeanProduct"]),
        (small_nce, ["nce"]),
        (["gaussian", small_nce, MeanProduct], ["gaussian", "nce", "MeanProduct"]),
        (("gaussian+hsic", "nce"), ["gaussian", "hsic", "nce"]),
        (
            {"wide": partial(HSICCritic, bandwidth=9.0), "narrow": partial(HSICCritic, bandwidth=1.0)},
            ["wide", "narrow"],
        ),
        ({"first": "gaussian", "second": "gaussian"}, ["first", "second"]),
    ],
)
def test_critics_are_built_from_callables(independence, names):
    check_independence(independence)
    critics = make_critic(independence, 3, 2)
    assert isinstance(critics, CriticSum)
    assert list(critics.critics) == names
    latent, condition = torch.randn(9, 3), torch.randn(9, 2)
    assert list(critics.bounds(latent, condition)) == names
    torch.testing.assert_close(critics.bound(latent, condition), sum(critics.bounds(latent, condition).values()))


def test_options_are_passed_to_the_critic():
    assert make_critic(small_nce, 3, 2).critics["nce"].embed_specific[0].out_features == 8
    assert make_critic({"wide": partial(HSICCritic, bandwidth=9.0)}, 3, 2).critics["wide"].bandwidth == 9.0


def test_only_trainable_critics_have_losses_and_diagnostics():
    critics = make_critic("hsic+nce", 3, 2)
    latent, condition = torch.randn(9, 3), torch.randn(9, 2)
    assert list(critics.losses(latent, condition)) == ["nce"]
    assert list(critics.diagnostics(latent, condition)) == ["nce_accuracy"]
    torch.testing.assert_close(critics.critic_loss(latent, condition), critics.losses(latent, condition)["nce"])
    kernel_terms = make_critic("hsic+distance_correlation", 3, 2)
    assert not kernel_terms.learns
    assert kernel_terms.critic_loss(latent, condition).item() == 0


def test_a_critic_with_parameters_must_define_its_loss():
    with pytest.raises(NotImplementedError, match="WithoutLoss has parameters, so it must define critic_loss"):
        make_critic(WithoutLoss, 3, 2).critic_loss(torch.randn(9, 3), torch.randn(9, 2))


def test_objects_that_cannot_be_imported_are_rejected():
    class Local(MeanProduct):
        pass

    for independence in (lambda *sizes: NCECritic(*sizes), Local, {"mine": Local}, ["gaussian", partial(Local)]):
        with pytest.raises(
            ValueError, match="cannot be saved with the model, .* a class or a function defined at the top level"
        ):
            check_independence(independence)


@pytest.mark.parametrize("independence", [NCECritic(3, 2), ["gaussian", NCECritic(3, 2)]])
def test_instances_of_critics_are_rejected(independence):
    with pytest.raises(TypeError, match="got an instance of NCECritic, but each modality needs its own critic"):
        check_independence(independence)


@pytest.mark.parametrize("independence", [3, None, ["gaussian", 3], {"mine": 3}])
def test_objects_that_are_not_callable_are_rejected(independence):
    with pytest.raises(TypeError, match="must be names of critics or callables"):
        check_independence(independence)
    with pytest.raises(TypeError, match="must be names of critics or callables"):
        make_critic(independence, 3, 2)


def test_callables_that_return_no_critic_are_rejected():
    with pytest.raises(TypeError, match="must make an IndependenceCritic, but made None"):
        make_critic(return_none, 3, 2)


@pytest.mark.parametrize("name", ["my.critic", "my critic", "1st"])
def test_names_that_are_not_identifiers_are_rejected(name):
    with pytest.raises(ValueError, match=f"the name {name!r} must consist of letters, digits and underscores"):
        make_critic({name: NCECritic}, 3, 2)


@pytest.mark.parametrize("independence", ["nce+nce", ["nce", small_nce], [MeanProduct, MeanProduct]])
def test_repeated_names_are_rejected(independence):
    with pytest.raises(ValueError, match="occurs twice. Give a mapping"):
        make_critic(independence, 3, 2)


def test_an_empty_list_of_critics_is_rejected():
    with pytest.raises(ValueError, match="at least one"):
        make_critic([], 3, 2)
