from __future__ import annotations

import math

import torch

from indiseek_sc.nn import LEVELS, IntervalCalibration, PredictionHead, RidgeMap


def draw(n_cells: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw five inputs and two linear outputs; the noise of one depends on the first input."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_cells, 5, generator=generator)
    weight = torch.tensor([[1.0, 0.0], [0.5, 30.0], [-0.5, 0.0], [0.0, 10.0], [0.0, 0.0]])
    std = torch.stack([0.3 + 0.7 * torch.sigmoid(2 * x[:, 0]), torch.full((n_cells,), 20.0)], dim=1)
    mean = x @ weight + torch.tensor([5.0, -100.0])
    return x, mean + std * torch.randn(n_cells, 2, generator=generator), mean, std


def fit(x: torch.Tensor, y: torch.Tensor, n_steps: int = 400, **kwargs) -> PredictionHead:
    torch.manual_seed(0)
    head = PredictionHead(x.shape[1], y.shape[1], 64, dropout=0.0, n_members=3, **kwargs)
    head.start_from(x, y)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        rows = torch.randint(len(x), (256,))
        optimizer.zero_grad()
        head.loss(x[rows], y[rows]).backward()
        optimizer.step()
        decay.step()
    return head.eval()


def test_linear_gaussian_data_are_predicted_as_well_as_by_ridge_with_true_standard_deviations():
    x, y, _, _ = draw(3000, seed=0)
    new, measured, mean, std = draw(2000, seed=1)
    head = fit(x, y)
    with torch.no_grad():
        predicted, predicted_std = head(new)
    ridge = RidgeMap(5, 2)
    ridge.fit(x, y)
    error, least = (((guess - measured) / std).square().mean() for guess in (predicted, ridge(new)))
    assert error < 1.05 * least
    assert ((predicted_std / std).log().abs().mean(dim=0) < 0.12).all()
    assert torch.corrcoef(torch.stack([predicted_std[:, 0], std[:, 0]]))[0, 1] > 0.9


def test_start_from_resets_the_prediction_to_the_overall_moments():
    x, y, _, _ = draw(500, seed=0)
    head = fit(x, y, n_steps=5)
    head.start_from(x, y)
    mean, std = head(x)
    torch.testing.assert_close(mean, y.mean(dim=0).expand_as(mean))
    torch.testing.assert_close(std, y.std(dim=0, correction=0).expand_as(mean))


def test_member_disagreement_increases_the_standard_deviation():
    x, y, _, _ = draw(500, seed=0)
    head = fit(x, y, n_steps=20)
    mean, log_scale = head.members(x)
    within = (2 * log_scale).exp().mean(dim=0)
    _, std = head(x)
    expected = (within + mean.var(dim=0, correction=0)).sqrt() * y.std(dim=0, correction=0)
    torch.testing.assert_close(std, expected)
    far = head.members(100 * x)[0].var(dim=0).mean()
    assert far > mean.var(dim=0).mean()


def test_standard_deviations_give_no_gradient_to_the_hidden_layers():
    x, y, _, _ = draw(100, seed=0)
    head = fit(x, y, n_steps=5)
    head.zero_grad()
    _, log_scale = head.members(x)
    log_scale.sum().backward()
    assert all(p.grad is None or not p.grad.any() for layer in head.layers for p in layer.parameters())
    assert head.log_scale.bias.grad.abs().sum() > 0


def test_constant_inputs_are_ignored_and_constant_outputs_are_exact():
    x, y, _, _ = draw(200, seed=0)
    x[:, 2], y[:, 1] = 3.0, 7.0
    head = fit(x, y, n_steps=5)
    mean, std = head(x)
    assert (mean[:, 1] == 7).all()
    assert (std[:, 1] == 0).all()
    moved = x.clone()
    moved[:, 2] += 1000
    assert torch.equal(head(moved)[0], mean)
    assert torch.isfinite(head.loss(x, y))


def test_calibrated_standard_deviations_match_the_errors():
    generator = torch.Generator().manual_seed(0)
    std = torch.rand(4000, 2, generator=generator) + 0.5
    error = std * torch.randn(4000, 2, generator=generator) * torch.tensor([0.5, 3.0])
    calibration = IntervalCalibration(2)
    calibration.fit(error, std)
    torch.testing.assert_close(calibration.scale, torch.tensor([0.5, 3.0]), rtol=0.05, atol=0)
    torch.testing.assert_close((error / calibration(std)).square().mean(dim=0), torch.ones(2))
    normal = torch.distributions.Normal(0, 1).icdf(torch.tensor(0.95))
    torch.testing.assert_close(calibration.half_widths[LEVELS.index(0.9)], normal.expand(2), rtol=0.05, atol=0)


def test_uninformative_standard_deviations_are_made_more_equal():
    generator = torch.Generator().manual_seed(0)
    std = (torch.randn(2000, 2, generator=generator) / 2).exp()
    noise = torch.randn(2000, 2, generator=generator)
    powers = []
    for truth in (std, std.sqrt(), torch.full_like(std, 3.0)):
        calibration = IntervalCalibration(2)
        calibration.fit(truth * noise, std)
        powers.append(float(calibration.power))
        torch.testing.assert_close(calibration(std), truth, rtol=0.1, atol=0)
    assert powers == [1.0, 0.5, 0.0]


def test_half_widths_are_the_conformal_ranks():
    error = torch.arange(1.0, 20.0).reshape(-1, 1)  # 19 cells, so that each level has its own rank
    calibration = IntervalCalibration(1)
    calibration.fit(error[torch.randperm(19)], torch.ones(19, 1))
    for level, width in zip(LEVELS, calibration.half_widths, strict=True):
        rank = min(math.ceil(round(20 * level, 6)), 19)  # the largest error is the upper limit
        torch.testing.assert_close(width * calibration.scale, torch.tensor([float(rank)]))


def test_coverage_of_new_cells_does_not_depend_on_the_error_distribution():
    generator = torch.Generator().manual_seed(1)
    error = torch.randn(6000, 1, generator=generator) ** 3
    std = torch.ones(6000, 1)
    calibration = IntervalCalibration(1)
    calibration.fit(error[:3000], std[:3000])
    for level in (0.5, 0.9, 0.95):
        reach = calibration.half_widths[LEVELS.index(level)] * calibration(std[3000:])
        inside = (error[3000:].abs() <= reach).float().mean().item()
        # The tolerance is four standard errors of the difference of two binomial shares.
        assert abs(inside - level) < 4 * math.sqrt(2 * level * (1 - level) / 3000)


def test_a_constant_column_has_intervals_of_width_zero():
    calibration = IntervalCalibration(1)
    calibration.fit(torch.zeros(50, 1), torch.zeros(50, 1))
    assert calibration.scale.tolist() == [1.0]
    assert (calibration.half_widths == 0).all()
