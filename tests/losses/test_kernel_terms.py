from __future__ import annotations

import math

import pytest
import torch

from indiseek_sc.losses import DistanceCorrelationCritic, HSICCritic, NoCritic, OrthogonalityCritic


def draw(n_cells: int, n_columns: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, n_cells, n_columns, generator=generator, dtype=torch.float64)
    return first, second


def gaussian_kernel(values: torch.Tensor, bandwidth: float) -> list[list[float]]:
    cells = values.tolist()
    return [[math.exp(-(math.dist(a, b) ** 2) / (2 * bandwidth**2)) for b in cells] for a in cells]


def unbiased_hsic(k: list[list[float]], m: list[list[float]]) -> float:
    """Compute equation 5 of Song et al. (2012) by sums over two, three and four different cells."""
    n = len(k)
    cells = range(n)
    two = sum(k[i][j] * m[i][j] for i in cells for j in cells if i != j) / (n * (n - 1))
    three = sum(k[i][j] * m[i][q] for i in cells for j in cells for q in cells if len({i, j, q}) == 3) / (
        n * (n - 1) * (n - 2)
    )
    four = sum(
        k[i][j] * m[q][r] for i in cells for j in cells for q in cells for r in cells if len({i, j, q, r}) == 4
    ) / (n * (n - 1) * (n - 2) * (n - 3))
    return two + four - 2 * three


def test_hsic_agrees_with_sums_over_tuples_of_cells():
    first, second = draw(8)
    second = second + first
    k, m = gaussian_kernel(first, 1.5), gaussian_kernel(second, 1.5)
    expected = unbiased_hsic(k, m) / math.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
    assert HSICCritic(bandwidth=1.5).bound(first, second).item() == pytest.approx(expected, rel=1e-9)


def test_the_default_bandwidth_is_the_median_distance():
    first, second = draw(51)
    widths = [torch.cdist(x, x).median().item() for x in (first, second)]
    k, m = (torch.tensor(gaussian_kernel(x, w)) for x, w in zip((first, second), widths, strict=True))
    scaled = [x / w for x, w in zip((first, second), widths, strict=True)]
    expected = HSICCritic(bandwidth=1.0).bound(*scaled)
    torch.testing.assert_close(HSICCritic().bound(first, second), expected)
    assert k.shape == m.shape


def test_distance_correlation_agrees_with_sums_over_pairs():
    first, second = draw(9)
    second = second + first
    n = 9

    def centred(values: torch.Tensor) -> dict[tuple[int, int], float]:
        a = [[math.dist(x, y) for y in values.tolist()] for x in values.tolist()]
        row, total = [sum(x) for x in a], sum(map(sum, a))
        return {
            (i, j): a[i][j] - row[i] / (n - 2) - row[j] / (n - 2) + total / ((n - 1) * (n - 2))
            for i in range(n)
            for j in range(n)
            if i != j
        }

    a, b = centred(first), centred(second)
    product, a_squares, b_squares = (sum(x[p] * y[p] for p in x) for x, y in ((a, b), (a, a), (b, b)))
    expected = product / math.sqrt(a_squares * b_squares)
    assert DistanceCorrelationCritic().bound(first, second).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("critic", [HSICCritic(), DistanceCorrelationCritic()], ids=["hsic", "distance"])
def test_the_mean_over_independent_samples_is_zero_in_many_dimensions(critic):
    # Without bias correction the estimates would be about 0.4 and 0.6 here.
    values = torch.stack([critic.bound(*draw(30, 20, seed=seed)) for seed in range(200)])
    assert abs(values.mean().item()) < 3 * values.std().item() / math.sqrt(200)
    assert values.min() < 0


@pytest.mark.parametrize("critic", [HSICCritic(), DistanceCorrelationCritic()], ids=["hsic", "distance"])
def test_complete_dependence_gives_one(critic):
    first, _ = draw(40)
    assert critic.bound(first, first).item() == pytest.approx(1)
    rotated = first @ torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    assert critic.bound(first, rotated).item() == pytest.approx(1)


@pytest.mark.parametrize("critic", [HSICCritic(), DistanceCorrelationCritic()], ids=["hsic", "distance"])
@pytest.mark.parametrize("n_cells", [1, 2, 3])
def test_fewer_than_four_cells_give_zero(critic, n_cells):
    assert critic.bound(*draw(n_cells)).item() == 0


def test_hsic_has_a_bandwidth_if_most_distances_are_zero():
    generator = torch.Generator().manual_seed(0)
    level = (torch.rand(200, 1, generator=generator) < 0.1).float()
    latent = level + 0.3 * torch.randn(200, 1, generator=generator)
    assert HSICCritic().bound(latent, level).item() > 0.3


def test_a_fixed_bandwidth_depends_on_the_scale():
    first, second = draw(50)
    critic = HSICCritic(bandwidth=1.0)
    assert not torch.isclose(critic.bound(first, first + second), critic.bound(3 * first, first + second), rtol=0.05)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan")])
def test_invalid_bandwidths_are_rejected(bandwidth):
    with pytest.raises(ValueError, match=f"bandwidth must be above 0, but is {bandwidth}"):
        HSICCritic(bandwidth=bandwidth)


@pytest.mark.parametrize("critic", [HSICCritic(), DistanceCorrelationCritic()], ids=["hsic", "distance"])
def test_kernel_terms_have_nothing_to_train(critic):
    assert not critic.learns
    assert critic.critic_loss(*draw(5)).item() == 0
    assert critic.diagnostics(*draw(5)) == {}


ORTHOGONALITY = OrthogonalityCritic(3, 2)


def test_orthogonality_agrees_with_loops():
    generator = torch.Generator().manual_seed(0)
    specific, condition = torch.randn(7, 3, generator=generator), torch.randn(7, 2, generator=generator)
    total = 0.0
    for j in range(3):
        for k in range(2):
            entry = 0.0
            for z, c in zip(specific.tolist(), condition.tolist(), strict=True):
                entry += z[j] / math.hypot(*z) * c[k] / math.hypot(*c)
            total += entry**2
    assert ORTHOGONALITY.bound(specific, condition).item() == pytest.approx(math.sqrt(total), rel=1e-5)


def test_orthogonality_ranges_from_zero_to_the_number_of_cells():
    latents = torch.zeros(8, 2)
    latents[:, 0] = 2.0
    assert ORTHOGONALITY.bound(latents, latents).item() == pytest.approx(8)
    orthogonal = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert ORTHOGONALITY.bound(orthogonal[:, :1], orthogonal[:, 1:]).item() == pytest.approx(0, abs=1e-5)


def test_orthogonality_misses_nonlinear_dependence():
    generator = torch.Generator().manual_seed(0)
    condition = torch.randint(2, (2000, 1), generator=generator) * 2.0 - 1
    sign = torch.randint(2, (2000, 1), generator=generator) * 2.0 - 1
    axis = torch.eye(2)[(condition[:, 0] > 0).long()]  # determines the condition
    assert ORTHOGONALITY.bound(sign * axis, condition) < 0.1 * ORTHOGONALITY.bound(axis, condition)


def test_orthogonality_has_a_finite_gradient_at_constant_representations():
    specific = torch.zeros(4, 3, requires_grad=True)
    ORTHOGONALITY.bound(specific, torch.ones(4, 2)).backward()
    assert torch.isfinite(specific.grad).all()


@pytest.mark.parametrize("critic", [ORTHOGONALITY, NoCritic(3, 2)])
def test_orthogonality_and_no_critic_have_nothing_to_train(critic):
    assert not critic.learns
    assert critic.critic_loss(torch.ones(4, 3), torch.ones(4, 2)) == 0


def test_the_bound_of_no_critic_is_zero():
    specific = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert NoCritic(2, 2).bound(specific, specific) == 0
