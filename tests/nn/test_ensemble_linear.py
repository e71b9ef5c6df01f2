from __future__ import annotations

import torch
import torch.nn.functional as F

from indiseek_sc.nn._networks import EnsembleLinear


def test_an_ensemble_layer_is_that_many_linear_layers():
    torch.manual_seed(0)
    layer = EnsembleLinear(3, 4, 2)
    x = torch.randn(3, 7, 4)
    for member in range(3):
        torch.testing.assert_close(layer(x)[member], F.linear(x[member], layer.weight[member].T, layer.bias[member, 0]))
    assert layer.weight.abs().max() <= 0.5  # 1 / sqrt(n_input), as in torch.nn.Linear
    assert layer.weight.unique().numel() == layer.weight.numel()
    assert (EnsembleLinear(3, 4, 2, start_at_zero=True)(x) == 0).all()


def test_new_weights_come_from_the_seed_and_lie_in_the_same_place():
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
