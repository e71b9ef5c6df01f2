from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from indiseek_sc.nn import CrossPredictor, LinearMap, SharedEncoder, make_mlp
from indiseek_sc.nn._networks import Dropout, EnsembleLinear, drop


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_dropout_keeps_the_expectation(share: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(400, 500)
    left = drop(values, share, training=True)
    kept = left != 0
    # The tolerance is five standard errors of a binomial share.
    assert kept.float().mean().item() == pytest.approx(1 - share, abs=5 * (share * (1 - share) / values.numel()) ** 0.5)
    torch.testing.assert_close(left[kept], torch.full_like(left[kept], 1 / (1 - share)))


def test_units_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (drop(torch.ones(20_000, 6), 0.4, training=True) != 0).float()
    correlation = torch.corrcoef(kept.T) - torch.eye(6)
    assert correlation.abs().max() < 5 / 20_000**0.5


@pytest.mark.parametrize(("share", "training"), [(0.4, False), (0.0, True)])
def test_values_are_unchanged_in_evaluation_and_without_dropout(share: float, training: bool) -> None:
    values = torch.randn(3, 4)
    assert drop(values, share, training) is values


def test_the_gradient_of_dropout_is_its_mask() -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 20, requires_grad=True)
    left = Dropout(0.4)(values)
    left.sum().backward()
    torch.testing.assert_close(values.grad * values, left)


def test_dropout_module_follows_its_mode_and_keeps_the_dtype() -> None:
    module = Dropout(0.5)
    values = torch.ones(1000, 4, dtype=torch.float64)
    assert module(values).dtype == torch.float64
    assert (module(values) == 0).any()
    assert (module.eval()(values) == 1).all()
    assert repr(module) == "Dropout(share=0.5)"


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_mlp_layers_and_shapes(n_layers):
    network = make_mlp(5, 2, 7, n_layers=n_layers, activation="relu")
    widths = [(layer.in_features, layer.out_features) for layer in network if isinstance(layer, nn.Linear)]
    assert widths == list(zip([5, *[7] * n_layers], [*[7] * n_layers, 2], strict=True))
    assert sum(isinstance(layer, nn.ReLU) for layer in network) == n_layers
    assert network(torch.ones(4, 5)).shape == (4, 2)


def test_a_network_that_starts_at_zero_can_be_trained():
    network = make_mlp(3, 2, 8, n_layers=2, dropout=0.5, normalize=True, start_at_zero=True)
    x = torch.randn(10, 3)
    assert (network(x) == 0).all()
    (network(x) - 1).square().sum().backward()
    assert network[-1].weight.grad.abs().sum() > 0
    assert (make_mlp(3, 2, 8, n_layers=2)(x) != 0).all()


def test_mlp_dropout_is_active_only_in_training():
    network = make_mlp(3, 2, 64, n_layers=1, dropout=0.5)
    x = torch.randn(4, 3)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_layer_normalisation_has_no_running_statistics():
    network = make_mlp(3, 2, 8, n_layers=2, normalize=True)
    assert sum(isinstance(layer, nn.LayerNorm) for layer in network) == 2
    assert list(network.buffers()) == []
    x = torch.randn(6, 3)
    torch.testing.assert_close(network(x)[:1], network(x[:1]))  # cells do not affect each other


def test_an_ensemble_layer_equals_separate_linear_layers():
    torch.manual_seed(0)
    layer = EnsembleLinear(3, 4, 2)
    x = torch.randn(3, 7, 4)
    for member in range(3):
        torch.testing.assert_close(layer(x)[member], F.linear(x[member], layer.weight[member].T, layer.bias[member, 0]))
    assert layer.weight.abs().max() <= 0.5  # 1 / sqrt(n_input), as in torch.nn.Linear
    assert layer.weight.unique().numel() == layer.weight.numel()
    assert (EnsembleLinear(3, 4, 2, start_at_zero=True)(x) == 0).all()


def test_reset_draws_weights_in_place_from_the_seed():
    layer = EnsembleLinear(2, 3, 4)
    weight = layer.weight
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        layer.reset()
        drawn.append(layer.weight.detach().clone())
    assert layer.weight is weight
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def make_encoder(**kwargs) -> SharedEncoder:
    torch.manual_seed(0)
    return SharedEncoder(6, 3, 8, 2, **{"dropout": 0.4, **kwargs})


def test_the_encoder_starts_as_the_linear_map_even_with_dropout():
    torch.manual_seed(0)
    linear = LinearMap(torch.randn(6, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64))
    encoder = make_encoder()
    encoder.start_from(linear)
    x = torch.randn(20, 6)
    torch.testing.assert_close(encoder(x), linear(x.double()).float())
    assert torch.equal(encoder(x), encoder.linear(x))


def test_the_network_learns_nonlinear_functions():
    encoder = make_encoder(dropout=0.0)
    x = torch.randn(256, 6)
    target = x[:, :3].square()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        (encoder(x) - target).square().mean().backward()
        optimizer.step()
    assert (encoder(x) - target).square().mean() < 0.5 * target.var()
    assert (encoder.network(x) != 0).any()


def test_without_a_linear_start_the_encoder_is_the_network():
    encoder = make_encoder(linear_start=False, dropout=0.0, activation="relu")
    x = torch.randn(4, 6)
    assert torch.equal(encoder(x), encoder.network(x))
    assert encoder(x).abs().sum() > 0
    with pytest.raises(ValueError, match="without a linear part"):
        encoder.start_from(LinearMap(torch.zeros(6), torch.zeros(6, 3)))


def test_inactive_dimensions_are_zero_and_receive_no_gradient():
    encoder = make_encoder(n_active=2)
    torch.nn.init.normal_(encoder.network[-1].weight)
    latent = encoder(torch.randn(20, 6))
    assert encoder.n_active == 2
    assert (latent[:, :2] != 0).all()
    assert (latent[:, 2] == 0).all()
    latent.sum().backward()
    assert (encoder.network[-1].weight.grad[2] == 0).all()
    assert (encoder.network[-1].weight.grad[:2] != 0).any()


def test_the_encoder_can_be_reset_to_a_linear_map():
    encoder = make_encoder().eval()
    torch.nn.init.normal_(encoder.network[-1].weight)
    linear = LinearMap(torch.zeros(6), torch.randn(6, 3))
    encoder.start_from(linear)
    x = torch.randn(20, 6)
    torch.testing.assert_close(encoder(x), linear(x))


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    return CrossPredictor(3, 5, 16)


def test_the_cross_predictor_is_invariant_to_scale(predictor):
    latent = torch.randn(500, 3)
    predictor.standardize.momentum = 1.0
    predictor.train()
    predictor(latent)
    plain = predictor.eval()(latent)
    predictor.train()
    predictor(1000 * latent)
    torch.testing.assert_close(predictor.eval()(1000 * latent), plain, rtol=1e-3, atol=1e-3)


def test_noise_is_added_only_in_training(predictor):
    latent = torch.randn(50, 3)
    predictor.network = torch.nn.Identity()
    predictor.train()
    difference = predictor(latent) - predictor(latent)
    assert 0.1 < difference.std() < 0.2  # difference of two draws with standard deviation 0.1
    predictor.eval()
    torch.testing.assert_close(predictor(latent), predictor(latent), rtol=0, atol=0)
