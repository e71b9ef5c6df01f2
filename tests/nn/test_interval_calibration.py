from __future__ import annotations

import math

import torch

from indiseek_sc.nn import LEVELS, IntervalCalibration


def test_scaled_deviations_are_standard_deviations():
    generator = torch.Generator().manual_seed(0)
    deviation = torch.rand(4000, 2, generator=generator) + 0.5
    error = deviation * torch.randn(4000, 2, generator=generator) * torch.tensor([0.5, 3.0])
    calibration = IntervalCalibration(2)
    calibration.fit(error, deviation)
    torch.testing.assert_close(calibration.scale, torch.tensor([0.5, 3.0]), rtol=0.05, atol=0)
    torch.testing.assert_close((error / calibration(deviation)).square().mean(dim=0), torch.ones(2))
    normal = torch.distributions.Normal(0, 1).icdf(torch.tensor(0.95))
    torch.testing.assert_close(calibration.half_widths[LEVELS.index(0.9)], normal.expand(2), rtol=0.05, atol=0)


def test_deviations_that_errors_do_not_follow_are_evened_out():
    generator = torch.Generator().manual_seed(0)
    deviation = (torch.randn(2000, 2, generator=generator) / 2).exp()
    noise = torch.randn(2000, 2, generator=generator)
    powers = []
    for truth in (deviation, deviation.sqrt(), torch.full_like(deviation, 3.0)):
        calibration = IntervalCalibration(2)
        calibration.fit(truth * noise, deviation)
        powers.append(float(calibration.power))
        torch.testing.assert_close(calibration(deviation), truth, rtol=0.1, atol=0)
    assert powers == [1.0, 0.5, 0.0]


def test_half_widths_are_the_conformal_ranks():
    error = torch.arange(1.0, 20.0).reshape(-1, 1)  # 19 cells, so a rank for each level
    calibration = IntervalCalibration(1)
    calibration.fit(error[torch.randperm(19)], torch.ones(19, 1))
    for level, width in zip(LEVELS, calibration.half_widths, strict=True):
        rank = min(math.ceil(round(20 * level, 6)), 19)  # beyond the largest there is no larger
        torch.testing.assert_close(width * calibration.scale, torch.tensor([float(rank)]))


def test_new_cells_are_covered_whatever_the_shape_of_errors():
    generator = torch.Generator().manual_seed(1)
    error = torch.randn(6000, 1, generator=generator) ** 3
    deviation = torch.ones(6000, 1)
    calibration = IntervalCalibration(1)
    calibration.fit(error[:3000], deviation[:3000])
    for level in (0.5, 0.9, 0.95):
        reach = calibration.half_widths[LEVELS.index(level)] * calibration(deviation[3000:])
        inside = (error[3000:].abs() <= reach).float().mean().item()
        # Both halves are drawn, so the difference of two binomial shares.
        assert abs(inside - level) < 4 * math.sqrt(2 * level * (1 - level) / 3000)


def test_a_constant_column_has_intervals_of_no_width():
    calibration = IntervalCalibration(1)
    calibration.fit(torch.zeros(50, 1), torch.zeros(50, 1))
    assert calibration.scale.tolist() == [1.0]
    assert (calibration.half_widths == 0).all()
