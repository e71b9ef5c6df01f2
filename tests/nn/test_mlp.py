from __future__ import annotations

import pytest
import torch
from torch import nn

from indiseek_sc.nn import make_mlp


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_layers_and_shapes(n_layers):
    network = make_mlp(5, 2, 7, n_layers=n_layers, activation="relu")
    widths = [(layer.in_features, layer.out_features) for layer in network if isinstance(layer, nn.Linear)]
    assert widths == list(zip([5, *[7] * n_layers], [*[7] * n_layers, 2], strict=True))
    assert sum(isinstance(layer, nn.ReLU) for layer in network) == n_layers
    assert network(torch.ones(4, 5)).shape == (4, 2)


def test_a_start_at_zero_is_the_zero_function_that_can_learn():
    network = make_mlp(3, 2, 8, n_layers=2, dropout=0.5, normalize=True, start_at_zero=True)
    x = torch.randn(10, 3)
    assert (network(x) == 0).all()
    (network(x) - 1).square().sum().backward()
    assert network[-1].weight.grad.abs().sum() > 0
    assert (make_mlp(3, 2, 8, n_layers=2)(x) != 0).all()


def test_dropout_is_for_training_alone():
    network = make_mlp(3, 2, 64, n_layers=1, dropout=0.5)
    x = torch.randn(4, 3)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_normalization_has_no_statistics_that_could_move():
    network = make_mlp(3, 2, 8, n_layers=2, normalize=True)
    assert sum(isinstance(layer, nn.LayerNorm) for layer in network) == 2
    assert list(network.buffers()) == []
    x = torch.randn(6, 3)
    torch.testing.assert_close(network(x)[:1], network(x[:1]))  # cells do not see each other
