from __future__ import annotations

import torch

from indiseek_sc.nn import FourierRegression

N_FIT = 2000


def draw(n_cells: int = 3000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_cells, 3, generator=generator) * torch.tensor([1.0, 20.0, 0.1]) + 5
    noise = torch.randn(n_cells, 2, generator=generator)
    return x, noise


def test_it_predicts_nothing_before_it_is_fitted():
    x, _ = draw()
    assert (FourierRegression(3, 2)(x) == 0).all()


def test_it_finds_a_curve_and_the_mean_of_noise():
    x, noise = draw()
    curve = ((x[:, 0] - 5).square() + (x[:, 1] - 5) / 10)[:, None]
    y = torch.cat([curve + 0.1 * noise[:, :1], 3 + noise[:, 1:]], dim=1)
    regression = FourierRegression(3, 2)
    regression.fit(x, y, N_FIT, each=True)
    assert regression.weight.dtype == torch.float32
    missed = regression(x)[N_FIT:, :1] - curve[N_FIT:]
    assert missed.square().mean() < 0.05 * curve.var()
    torch.testing.assert_close(regression(x)[N_FIT:, 1], torch.full((1000,), 3.0), atol=0.15, rtol=0)


def test_noise_is_left_alone_but_for_chance():
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(700, 4, generator=generator), torch.randn(700, 200, generator=generator)
    regression = FourierRegression(4, 200)
    regression.fit(x, y, 500, each=True)
    bent = regression(x).std(dim=0) > 0
    assert bent.float().mean() < 0.1  # a gain of more than two standard errors, one-sided
    y[:, :100] += x[:, :1].sin()
    regression.fit(x, y, 500, each=True)
    assert (regression(x)[:, :100].std(dim=0) > 0).float().mean() > 0.7


def test_what_tells_nothing_is_left_alone_to_the_bit_if_each_column_chooses():
    """Of cells to choose by that contradict those fitted on, no penalty helps."""
    x, _ = draw()
    y = x[:, :1].repeat(1, 2)
    y[N_FIT:, 0] = 10 - y[N_FIT:, 0]
    regression = FourierRegression(3, 2)
    regression.fit(x, y, N_FIT, each=True)
    assert regression(x)[:, 0].unique().numel() == 1
    assert (regression(x)[:, 1] - y[:, 1]).abs().mean() < 0.1


def test_constant_and_scaled_columns_change_nothing():
    x, noise = draw()
    y = x[:, :2].sin() + 0.1 * noise
    predictions = []
    for columns in (x, x * torch.tensor([3.0, 0.01, 100.0]) - 7):
        regression = FourierRegression(3, 2, seed=1)
        regression.fit(columns, y, N_FIT)
        predictions.append(regression(columns))
    torch.testing.assert_close(*predictions, atol=1e-3, rtol=0)
    regression = FourierRegression(4, 2)
    with_constant = torch.cat([x, torch.full((3000, 1), 2.0)], dim=1)
    regression.fit(with_constant, y, N_FIT)
    assert torch.isfinite(regression(with_constant)).all()
    assert (regression.scale[3] == 0).all()
