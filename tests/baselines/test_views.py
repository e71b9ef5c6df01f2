from __future__ import annotations

import math

import pytest
import torch

from indiseek_sc.baselines._info_disen import draw_direction
from indiseek_sc.baselines._views import DROPPED, NOISE, TEMPERATURE, augment, contrast_error


def test_views_replace_features_by_their_mean_and_add_scaled_noise():
    torch.manual_seed(0)
    center, spread = torch.tensor([5.0, -3.0]), torch.tensor([1.0, 10.0])
    features = center + 100 * spread.expand(20_000, 2)
    view = augment(features, center, spread)
    dropped = (view - center).abs() < (view - features).abs()
    torch.testing.assert_close(dropped.float().mean(dim=0), torch.full((2,), DROPPED), atol=0.01, rtol=0)
    noise = (view - torch.where(dropped, center, features)) / spread
    torch.testing.assert_close(noise.mean(dim=0), torch.zeros(2), atol=0.01, rtol=0)
    torch.testing.assert_close(noise.std(dim=0), torch.full((2,), NOISE), atol=0.01, rtol=0)


def test_contrast_agrees_with_explicit_loops():
    generator = torch.Generator().manual_seed(0)
    latents, view = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    score = [
        [
            sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b) / TEMPERATURE
            for b in view.tolist()
        ]
        for a in latents.tolist()
    ]
    loss = 0.0
    for i in range(5):
        loss -= score[i][i] - math.log(sum(math.exp(score[i][j]) for j in range(5)))
        loss -= score[i][i] - math.log(sum(math.exp(score[j][i]) for j in range(5)))
    assert contrast_error(latents, view).item() == pytest.approx(loss / 10 / math.log(5), rel=1e-5)


def test_contrast_is_1_at_chance_and_0_where_complete():
    assert contrast_error(torch.ones(6, 4), torch.ones(6, 4)).item() == pytest.approx(1, abs=1e-5)
    assert contrast_error(torch.eye(6), torch.eye(6)).item() == pytest.approx(0, abs=1e-4)
    assert contrast_error(torch.ones(1, 4), torch.ones(1, 4)).item() == 0


@pytest.mark.parametrize("n_dimensions", [3, 16])
def test_sampled_directions_follow_von_mises_fisher(n_dimensions):
    torch.manual_seed(0)
    mean = torch.zeros(50_000, n_dimensions)
    mean[:, 0] = 1.0
    drawn = draw_direction(mean, 1000.0)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(50_000))
    # The mean cosine of von Mises-Fisher is 1 - (d - 1) / (2 kappa) + O(1 / kappa^2).
    assert 1 - drawn[:, 0].mean().item() == pytest.approx((n_dimensions - 1) / 2000, rel=0.03)
