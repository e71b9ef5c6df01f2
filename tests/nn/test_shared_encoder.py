from __future__ import annotations

import pytest
import torch

from indiseek_sc.nn import LinearMap, SharedEncoder


def make_encoder(**kwargs) -> SharedEncoder:
    torch.manual_seed(0)
    return SharedEncoder(6, 3, 8, 2, **{"dropout": 0.4, **kwargs})


def test_it_starts_as_the_linear_map_even_with_dropout():
    torch.manual_seed(0)
    linear = LinearMap(torch.randn(6, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64))
    encoder = make_encoder()
    encoder.start_from(linear)
    x = torch.randn(20, 6)
    torch.testing.assert_close(encoder(x), linear(x.double()).float())
    assert torch.equal(encoder(x), encoder.linear(x))


def test_the_network_learns_what_the_linear_map_cannot():
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


def test_without_a_linear_start_it_is_the_network_alone():
    encoder = make_encoder(linear_start=False, dropout=0.0, activation="relu")
    x = torch.randn(4, 6)
    assert torch.equal(encoder(x), encoder.network(x))
    assert encoder(x).abs().sum() > 0
    with pytest.raises(ValueError, match="without a linear part"):
        encoder.start_from(LinearMap(torch.zeros(6), torch.zeros(6, 3)))


def test_columns_that_are_not_in_use_are_zero_and_learn_nothing():
    encoder = make_encoder(n_active=2)
    torch.nn.init.normal_(encoder.network[-1].weight)
    code = encoder(torch.randn(20, 6))
    assert encoder.n_active == 2
    assert (code[:, :2] != 0).all()
    assert (code[:, 2] == 0).all()
    code.sum().backward()
    assert (encoder.network[-1].weight.grad[2] == 0).all()
    assert (encoder.network[-1].weight.grad[:2] != 0).any()


def test_it_can_become_linear_again():
    encoder = make_encoder().eval()
    torch.nn.init.normal_(encoder.network[-1].weight)
    linear = LinearMap(torch.zeros(6), torch.randn(6, 3))
    encoder.start_from(linear)
    x = torch.randn(20, 6)
    torch.testing.assert_close(encoder(x), linear(x))
