from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from indiseek_sc.losses import FullGaussianCritic, GaussianCritic, LeaveOneOutCritic, MixtureCritic
from indiseek_sc.nn import Whitening

RHO = 0.8
"""Correlation of each dimension of the representation with one of the condition.

For standard normal z and c the true density is q(z|c) = N(rho c, 1 - rho^2). The expectation of
(z - rho c)^2 is 1 - rho^2 over true pairs and 1 + rho^2 over all pairs, so that in each dimension
vCLUB = (1 + rho^2 - 1 + rho^2) / (2 (1 - rho^2)) = rho^2 / (1 - rho^2).
"""
INFORMATION = -0.5 * math.log(1 - RHO**2)


def draw(n_cells: int, rho: float = RHO, n_dimensions: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    condition, noise = torch.randn(2, n_cells, n_dimensions, generator=generator)
    return rho * condition + math.sqrt(1 - rho**2) * noise, condition


def make_gaussian(**kwargs) -> GaussianCritic:
    torch.manual_seed(0)
    return GaussianCritic(2, 2, 32, **kwargs)


def train(critic: GaussianCritic, rho: float) -> GaussianCritic:
    optimizer = torch.optim.Adam(critic.parameters(), lr=5e-3)
    for step in range(400):
        optimizer.zero_grad()
        critic.critic_loss(*draw(512, rho, seed=step)).backward()
        optimizer.step()
    return critic


@pytest.mark.parametrize("bounded", [False, True])
def test_gaussian_loss_and_bound_agree_with_loops_over_pairs(bounded):
    critic = make_gaussian(bounded_variance=bounded)
    specific, condition = draw(9)
    mean, log_variance = critic.network(condition).chunk(2, dim=1)
    scale = (torch.tanh(log_variance) if bounded else log_variance).exp().sqrt()

    def log_density(i: int, j: int) -> torch.Tensor:
        """Return the log-density of the representation of cell i given the condition of cell j."""
        return Normal(mean[j], scale[j]).log_prob(specific[i]).sum()

    paired = torch.stack([log_density(i, i) for i in range(9)]).mean()
    unpaired = torch.stack([log_density(i, j) for i in range(9) for j in range(9)]).mean()
    torch.testing.assert_close(critic.bound(specific, condition), paired - unpaired)
    constant = 2 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(critic.critic_loss(specific, condition), -paired - constant)


def test_gaussian_bound_of_the_true_density_is_the_closed_form(monkeypatch):
    critic = make_gaussian()
    log_variance = torch.full((1, 2), math.log(1 - RHO**2))
    monkeypatch.setattr(critic, "_moments", lambda condition: (RHO * condition, log_variance))
    specific, condition = draw(200_000)
    assert critic.bound(specific, condition).item() == pytest.approx(2 * RHO**2 / (1 - RHO**2), rel=0.01)


def test_a_trained_critic_recovers_correlated_gaussians():
    critic = train(make_gaussian(), RHO)
    specific, condition = draw(5000, seed=10_000)
    with torch.no_grad():
        # The entropy of a standard normal is 1/2 up to the constant; the condition reduces it by
        # the mutual information.
        assert 2 * 0.5 - critic.critic_loss(specific, condition).item() == pytest.approx(2 * INFORMATION, abs=0.06)
        bound = critic.bound(specific, condition).item()
    assert bound == pytest.approx(2 * RHO**2 / (1 - RHO**2), rel=0.12)
    assert bound > 2 * INFORMATION


def test_the_bound_of_a_trained_critic_is_zero_at_independence():
    critic = train(make_gaussian(), 0.0)
    with torch.no_grad():
        assert critic.bound(*draw(5000, 0.0, seed=10_000)).item() == pytest.approx(0, abs=0.03)


def test_the_bound_of_a_single_cell_is_zero():
    assert make_gaussian().bound(*draw(1)).item() == 0


def test_the_bounded_log_variance_lies_between_minus_one_and_one():
    critic = make_gaussian(bounded_variance=True)
    condition = 1e6 * torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean = critic.network(condition).chunk(2, dim=1)[0]
        # For representations equal to the mean, the loss consists of the log-variance alone.
        assert -1 <= critic.critic_loss(mean, condition).item() <= 1


def test_gaussian_bound_is_finite_at_extreme_conditions():
    critic = make_gaussian()
    specific = draw(20)[0].requires_grad_()
    bound = critic.bound(specific, 1e4 * draw(20)[1])
    bound.backward()
    assert torch.isfinite(bound)
    assert torch.isfinite(specific.grad).all()


def make_leave_one_out() -> LeaveOneOutCritic:
    torch.manual_seed(0)
    return LeaveOneOutCritic(2, 2, 32)


def test_leave_one_out_agrees_with_loops_over_pairs():
    critic = make_leave_one_out().double()
    latent, condition = torch.randn(7, 2).double(), torch.randn(7, 2).double()
    mean, log_variance = critic._moments(condition)

    def density(i: int, j: int) -> float:
        return Normal(mean[j], (log_variance[j] / 2).exp()).log_prob(latent[i]).sum().exp().item()

    expected = sum(math.log(density(i, i) / (sum(density(i, j) for j in range(7) if j != i) / 6)) for i in range(7))
    assert critic.bound(latent, condition).item() == pytest.approx(expected / 7)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.95])
def test_the_true_density_gives_a_tighter_upper_bound_than_club(monkeypatch, rho):
    # Mutual information of two dimensions of correlation rho each, and CLUB of the true density.
    information, club = -math.log(1 - rho**2), 2 * rho**2 / (1 - rho**2)
    generator = torch.Generator().manual_seed(0)
    condition, noise = torch.randn(2, 4000, 2, generator=generator)
    latent = rho * condition + math.sqrt(1 - rho**2) * noise
    critic = make_leave_one_out()
    truth = rho * condition, torch.full((4000, 2), math.log(1 - rho**2))
    monkeypatch.setattr(critic, "_moments", lambda condition: truth)
    bound = critic.bound(latent, condition).item()
    assert information - 0.02 < bound
    assert bound < club + 1e-6
    assert bound == pytest.approx(information, abs=0.1)  # tight with thousands of cells


def test_smaller_batches_give_a_higher_bound():
    critic = make_leave_one_out()
    with torch.no_grad():
        critic.network[-1].weight *= 15  # introduce dependence
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(2000, 2, generator=generator)
    mean, log_variance = critic._moments(condition)
    latent = mean + (log_variance / 2).exp() * torch.randn(2000, 2, generator=generator)
    with torch.no_grad():
        small = torch.stack([critic.bound(z, c) for z, c in zip(latent.split(5), condition.split(5), strict=True)])
        assert small.mean() > critic.bound(latent, condition) + 0.02


def test_two_cells_are_compared_with_each_other():
    critic = make_leave_one_out()
    latent, condition = torch.randn(2, 2), torch.randn(2, 2)
    scores = critic.scores(latent, condition)
    expected = (scores[0, 0] - scores[0, 1] + scores[1, 1] - scores[1, 0]) / 2
    torch.testing.assert_close(critic.bound(latent, condition), expected)


def test_leave_one_out_is_trained_like_the_gaussian_critic():
    critic = make_leave_one_out()
    twin = GaussianCritic(2, 2, 32)
    twin.load_state_dict(critic.state_dict())
    latent, condition = torch.randn(30, 2), torch.randn(30, 2)
    assert torch.equal(critic.critic_loss(latent, condition), twin.critic_loss(latent, condition))


def make_full_gaussian(n_specific: int = 3) -> FullGaussianCritic:
    torch.manual_seed(0)
    return FullGaussianCritic(n_specific, 2, 32)


def test_full_gaussian_loss_and_bound_agree_with_loops_over_pairs():
    critic = make_full_gaussian().double()
    latent, condition = torch.randn(9, 3).double(), torch.randn(9, 2).double()
    mean, log_scale, cholesky = critic.network(condition).split(critic.sizes, dim=1)

    def log_density(i: int, j: int) -> torch.Tensor:
        """Return the log-density of the representation of cell i given the condition of cell j."""
        lower = torch.eye(3).double()
        lower[1, 0], lower[2, 0], lower[2, 1] = cholesky[j]
        root = lower @ torch.diag((-log_scale[j]).exp())
        return MultivariateNormal(mean[j], precision_matrix=root.T @ root).log_prob(latent[i])

    each = torch.stack([torch.stack([log_density(i, j) for j in range(9)]) for i in range(9)])
    constant = 3 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(critic.scores(latent, condition), each + constant)
    torch.testing.assert_close(critic.bound(latent, condition), each.diagonal().mean() - each.mean())
    torch.testing.assert_close(critic.critic_loss(latent, condition), -each.diagonal().mean() - constant)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_full_gaussian_bound_of_the_true_density_is_the_closed_form(monkeypatch, rho):
    # The condition is the sign s of the correlation. E |A z|^2 is 2 for a true pair. For the
    # opposite sign, with precision ((1, -s rho), (-s rho, 1)) / (1 - rho^2), it is
    # 2 (1 + rho^2) / (1 - rho^2). Half of all pairs have the opposite sign.
    generator = torch.Generator().manual_seed(0)
    n_cells, std = 100_000, math.sqrt(1 - rho**2)
    sign = torch.randint(0, 2, (n_cells, 1), generator=generator) * 2.0 - 1.0
    first, noise = torch.randn(2, n_cells, 1, generator=generator)
    latent = torch.cat([first, rho * sign * first + std * noise], dim=1)
    critic = FullGaussianCritic(2, 1)
    log_scale = torch.tensor([0.0, math.log(std)]).expand(n_cells, 2)
    truth = Whitening(torch.zeros(n_cells, 2), log_scale, -rho * sign / std)
    monkeypatch.setattr(critic, "_whitening", lambda condition: truth)
    expected = ((1 + rho**2) / (1 - rho**2) - 1) / 2
    assert critic.bound(latent, sign).item() == pytest.approx(expected, rel=0.02, abs=0.01)


def test_full_gaussian_works_with_one_dimension():
    critic = make_full_gaussian(1)
    latent, condition = torch.randn(20, 1), torch.randn(20, 2)
    assert torch.isfinite(critic.bound(latent, condition))
    assert critic.scores(latent, condition).shape == (20, 20)


def test_full_gaussian_bound_is_finite_at_extreme_conditions():
    critic = make_full_gaussian()
    latent = torch.randn(20, 3).requires_grad_()
    bound = critic.bound(latent, 1e3 * torch.randn(20, 2))
    bound.backward()
    assert torch.isfinite(bound)
    assert torch.isfinite(latent.grad).all()


def test_mixture_loss_and_bound_agree_with_loops_over_pairs():
    torch.manual_seed(0)
    critic = MixtureCritic(2, 3, 32, n_components=3).double()
    latent, condition = torch.randn(8, 2).double(), torch.randn(8, 3).double()
    log_weight, mean, log_variance = critic._components(condition)
    assert mean.shape == log_variance.shape == (8, 3, 2)

    def log_density(i: int, j: int) -> torch.Tensor:
        """Return the log-density of the representation of cell i given the condition of cell j."""
        components = Independent(Normal(mean[j], (log_variance[j] / 2).exp()), 1)
        return MixtureSameFamily(Categorical(logits=log_weight[j]), components).log_prob(latent[i])

    each = torch.stack([torch.stack([log_density(i, j) for j in range(8)]) for i in range(8)])
    constant = 2 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(critic.scores(latent, condition), each + constant)
    torch.testing.assert_close(critic.bound(latent, condition), each.diagonal().mean() - each.mean())
    torch.testing.assert_close(critic.critic_loss(latent, condition), -each.diagonal().mean() - constant)


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_mixture_bound_of_the_true_density_is_the_closed_form(monkeypatch, rho):
    # As for the diagonal Gaussian, rho^2 / (1 - rho^2) for each dimension; the true density is
    # split into two equal components.
    generator = torch.Generator().manual_seed(0)
    condition, noise = torch.randn(2, 1500, 2, generator=generator)
    latent = rho * condition + math.sqrt(1 - rho**2) * noise
    critic = MixtureCritic(2, 2, n_components=2)
    log_weight = torch.tensor([0.3, 0.7]).log().expand(1500, 2)
    mean = (rho * condition)[:, None].expand(1500, 2, 2)
    log_variance = torch.full((1500, 2, 2), math.log(1 - rho**2))
    monkeypatch.setattr(critic, "_components", lambda condition: (log_weight, mean, log_variance))
    assert critic.bound(latent, condition).item() == pytest.approx(2 * rho**2 / (1 - rho**2), rel=0.08, abs=1e-4)


def test_mixture_components_have_different_initial_means():
    torch.manual_seed(0)
    _, mean, _ = MixtureCritic(4, 2, 32)._components(torch.zeros(1, 2))
    assert torch.pdist(mean[0]).min() > 0.5


def test_mixture_bound_is_finite_far_from_all_components():
    torch.manual_seed(0)
    critic = MixtureCritic(2, 2, 32)
    latent = (1e3 * torch.randn(10, 2)).requires_grad_()
    bound = critic.bound(latent, torch.randn(10, 2))
    bound.backward()
    assert torch.isfinite(bound)
    assert torch.isfinite(latent.grad).all()
