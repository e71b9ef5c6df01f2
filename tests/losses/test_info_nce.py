from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from indiseek_sc.losses import info_nce


def draw(n_cells: int = 7, n_dimensions: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n_cells, n_dimensions, generator=generator, dtype=torch.float64) for _ in range(2))


def reference(first: torch.Tensor, second: torch.Tensor, scale: float) -> float:
    """Both directions of the contrast, cell by cell."""
    n_cells = len(first)

    def similarity(i: int, j: int) -> float:
        a, b = first[i].tolist(), second[j].tolist()
        return scale * sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    total = 0.0
    for i in range(n_cells):
        among_second = sum(math.exp(similarity(i, j)) for j in range(n_cells))
        among_first = sum(math.exp(similarity(j, i)) for j in range(n_cells))
        total -= 2 * similarity(i, i) - math.log(among_second) - math.log(among_first)
    return total / (2 * n_cells)


@pytest.mark.parametrize("scale", [0.5, 1.0, 14.0])
def test_a_loop_over_cells_gives_the_same(scale):
    first, second = draw()
    value = info_nce(first, second, torch.tensor(scale, dtype=torch.float64).log())
    assert value.item() == pytest.approx(reference(first, second, scale), rel=1e-12)


@pytest.mark.parametrize("n_cells", [1, 2, 16])
def test_codes_that_tell_nothing_apart_are_at_chance(n_cells):
    same = torch.ones(n_cells, 3)
    torch.testing.assert_close(info_nce(same, same, torch.tensor(2.0)), torch.tensor(math.log(n_cells)))


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_orthogonal_codes_that_match(scale):
    codes = torch.eye(6, dtype=torch.float64)
    value = info_nce(codes, 3 * codes, torch.tensor(scale, dtype=torch.float64).log())
    assert value.item() == pytest.approx(math.log1p(5 * math.exp(-scale)))


def test_the_order_of_cells_does_not_matter_but_the_pairing_does():
    first, second = draw()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    log_scale = torch.tensor(1.0)
    value = info_nce(first, second, log_scale)
    torch.testing.assert_close(info_nce(first[order], second[order], log_scale), value)
    torch.testing.assert_close(info_nce(second, first, log_scale), value)
    assert not torch.isclose(info_nce(first[order], second, log_scale), value)


def test_lengths_do_not_matter():
    first, second = draw()
    lengths = torch.linspace(0.1, 50, 7)[:, None]
    torch.testing.assert_close(
        info_nce(first * lengths, second, torch.tensor(1.0)), info_nce(first, second, torch.tensor(1.0))
    )


def test_a_step_down_brings_partners_together():
    first, second = draw()
    first.requires_grad_()
    loss = info_nce(first, second, torch.tensor(1.0))
    loss.backward()
    torch.testing.assert_close((first * first.grad).sum(dim=1), torch.zeros(7, dtype=torch.float64))  # lengths stay
    with torch.no_grad():
        moved = first - 0.1 * first.grad
        assert info_nce(moved, second, torch.tensor(1.0)) < loss
        assert F.cosine_similarity(moved, second).mean() > F.cosine_similarity(first, second).mean()


@pytest.mark.parametrize(("shift", "sign"), [(0, -1), (1, 1)])
def test_the_temperature_falls_for_true_partners_and_rises_for_false_ones(shift, sign):
    log_scale = torch.tensor(1.0, requires_grad=True)
    info_nce(torch.eye(5), torch.eye(5).roll(shift, dims=0), log_scale).backward()
    assert log_scale.grad.sign().item() == sign


def test_extreme_inputs_stay_finite():
    first, second = (x.float().requires_grad_() for x in draw())
    with torch.no_grad():
        first[0] = 0.0
        second[1] = 1e18
    loss = info_nce(first, second, torch.tensor(8.0))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(first.grad).all()
    assert torch.isfinite(second.grad).all()


@pytest.mark.parametrize(
    ("first", "second"), [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((2, 4, 3), (2, 4, 3))]
)
def test_codes_without_partners_are_refused(first, second):
    with pytest.raises(ValueError, match="one shape"):
        info_nce(torch.ones(first), torch.ones(second), torch.tensor(0.0))
