from __future__ import annotations

import pytest
import torch
from torch import nn

from indiseek_sc.nn import ConditionalCodec, PlainCodec, SpecificCodec


def draw(n_cells: int = 300, n_features: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and a condition of two columns that decides the mean and the spread of some of them."""
    torch.manual_seed(0)
    condition = torch.randn(n_cells, 2)
    features = torch.randn(n_cells, n_features) * torch.linspace(3, 0.5, n_features)
    features[:, 0] *= (condition[:, 0] / 2).exp()
    features[:, 1] += condition[:, 1].square()
    return features @ torch.randn(n_features, n_features) + condition @ torch.randn(2, n_features) + 1, condition


def make_codec(
    n_specific: int = 4, n_shared: int = 0, *, bent: bool = True
) -> tuple[ConditionalCodec, torch.Tensor, torch.Tensor]:
    """A codec at the start of the critics' stage, whose conditional whitening and, if bent, shape know something."""
    features, condition = draw()
    codec = ConditionalCodec(6, 2, n_specific, 16)
    codec.fit(features, condition, n_shared)
    codec.fit_whitening(features, condition, 200)
    codec.in_use.copy_(codec.conditional.varies)  # narrow ones too
    codec.shape.varies.copy_(codec.conditional.varies)
    if bent:
        nn.init.normal_(codec.shape.network.layers[-1].weight, std=0.6)
    else:
        codec.shape.give_up()
    codec.eval()
    codec.freeze_start(features, condition)
    codec.freeze_statistics(codec.prepare(features, condition), condition)
    return codec, features, condition


def disturb(codec: SpecificCodec) -> None:
    """Move what the stages train, as if they had."""
    nn.init.normal_(codec.correction[-1].weight, std=0.3)
    nn.init.normal_(codec.correction[-1].bias)


def test_at_the_start_decoding_undoes_encoding_along_the_axes():
    codec, features, condition = make_codec()
    decoded = codec.decode(codec(features, condition), condition)
    torch.testing.assert_close(codec.scores(decoded, condition), codec.scores(features, condition), atol=5e-3, rtol=0)
    # Across the axes stays what the ridge regression says.
    across = torch.eye(6) - codec.principal.components @ codec.principal.components.T
    torch.testing.assert_close(decoded @ across, (codec.baseline(condition) + codec.principal.center) @ across)


def test_with_all_axes_decoding_gives_the_features_back():
    codec, features, condition = make_codec(n_specific=6)
    torch.testing.assert_close(codec.decode(codec(features, condition), condition), features, atol=5e-3, rtol=0)


def test_the_start_is_the_conditional_whitening_evened_out_in_shape():
    codec, features, condition = make_codec()
    whitened = codec.conditional(condition).whiten(codec.scores(features, condition))
    bent = codec.shape(whitened, condition)
    assert (bent - whitened).abs().mean() > 0.05
    standardized = (bent - bent.mean(dim=0)) / bent.std(dim=0, correction=0)
    torch.testing.assert_close(codec(features, condition), standardized, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("n_shared", "n_used"), [(0, 4), (3, 3), (5, 1), (6, 1), (9, 1)])
def test_there_are_as_many_dimensions_as_the_shared_code_leaves(n_shared, n_used):
    codec, features, condition = make_codec(n_shared=n_shared)
    disturb(codec)
    assert codec.n_used == n_used
    for training in (True, False):
        codec.train(training)
        code = codec(features, condition)
        assert code.shape == (300, 4)
        assert (code[:, n_used:] == 0).all()
        assert (code[:, :n_used].std(dim=0) > 0.5).all()


def draw_axes(brought: list[float]) -> torch.Tensor:
    """Independent columns of exactly these variances."""
    generator = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(4000, len(brought), generator=generator, dtype=torch.float64))
    axes -= axes.mean(dim=0)
    return (axes / axes.std(dim=0, correction=0) * torch.tensor(brought).sqrt()).float()


def test_dimensions_that_bring_next_to_nothing_are_left_out():
    features = draw_axes([9.0, 0.01, 4.0, 0.02, 6.0, 1.5])
    condition = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    codec = ConditionalCodec(6, 2, 6, 16)
    codec.fit(features, condition)
    codec.fit_whitening(features, condition, 3000)
    assert codec.used.tolist() == [0, 1, 2, 3]
    assert codec.shape.varies.tolist() == [1, 1, 1, 1, 0, 0]
    codec.shape.give_up()
    codec.freeze_start(features, condition)
    disturb(codec)
    codec.freeze_statistics(codec.prepare(features, condition), condition)
    for training in (True, False):
        codec.train(training)
        code = codec(features, condition)
        assert (code[:, 4:] == 0).all()
        assert (code[:, codec.used].std(dim=0) > 0.5).all()


@pytest.mark.parametrize(
    ("brought", "n_used"),
    [
        ([1.0, 1.0, *[0.09] * 10], 12),  # ten of .09 are a third of the whole
        ([1.0, 1.0, 0.12, *[0.01] * 9], 2),  # .12 is more than a fifth of the mean of all, but not of those that stay
        ([1.0, 0.9, 0.21, *[0.001] * 9], 3),  # .21 is more than a fifth of .95
        ([9.0, *[0.12] * 11], 12),  # one wide dimension does not make the others idle
        ([9.0, *[0.05] * 11], 1),  # unless they are a tenth of the whole or less
        ([1.0] * 12, 12),
    ],
)
def test_what_is_idle_is_told_from_those_left(brought, n_used):
    features, condition = draw_axes(brought), torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    codec = ConditionalCodec(12, 2, 12, 16)
    codec.fit(features, condition)
    codec.fit_whitening(features, condition, 3000)
    assert codec.used.tolist() == list(range(n_used))


def test_without_idle_dimensions_decoding_gives_back_what_they_do_not_hold():
    codec, features, condition = make_codec(n_specific=6, bent=False)
    idle = 3
    codec.in_use[idle] = 0
    codec.freeze_start(features, condition)
    codec.freeze_statistics(codec.prepare(features, condition), condition)
    decoded = codec.decode(codec(features, condition), condition)
    whitened = codec.conditional(condition).whiten(codec.scores(decoded, condition))
    expected = codec.conditional(condition).whiten(codec.scores(features, condition))
    expected[:, idle] = 0
    torch.testing.assert_close(whitened, expected, atol=2e-3, rtol=0)


def test_frozen_statistics_give_unit_variance_whatever_the_correction():
    codec, features, condition = make_codec()
    disturb(codec)
    prepared = codec.prepare(features, condition)
    codec.freeze_statistics(prepared, condition)
    code = codec.encode(prepared, condition)
    torch.testing.assert_close(code.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(code.std(dim=0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_in_training_the_batch_standardises_and_in_evaluation_cells_stand_alone():
    codec, features, condition = make_codec()
    disturb(codec)
    codec.train()
    few = codec(features[:50], condition[:50])
    torch.testing.assert_close(few.std(dim=0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    codec.eval()
    code = codec(features, condition)
    assert torch.equal(code, codec(features, condition))
    torch.testing.assert_close(codec(features[:3], condition[:3]), code[:3])
    assert torch.equal(codec.decode(code, condition), codec.decode(code, condition))


def test_the_refinement_adds_to_the_closed_form():
    codec, features, condition = make_codec()
    code = codec(features, condition)
    closed = codec.decode(code, condition)
    nn.init.normal_(codec.refinement[-1].weight)
    refined = codec.decode(code, condition)
    torch.testing.assert_close(
        refined - closed, codec.refinement(torch.cat([code, condition], dim=1)), atol=1e-4, rtol=0
    )


def test_prepared_cells_encode_as_their_features_do():
    codec, features, condition = make_codec()
    disturb(codec)
    prepared = codec.prepare(features, condition)
    assert {x.shape[0] for x in prepared.values()} == {300}
    assert torch.equal(codec.encode(prepared, condition), codec(features, condition))


def test_the_comparison_is_what_decoding_loses_along_the_axes():
    codec, features, condition = make_codec(bent=False)  # shape takes no part in the comparison
    disturb(codec)
    prepared = codec.prepare(features, condition)
    code = codec.encode(prepared, condition)
    target, estimate = codec.compare(code, prepared, condition)
    missed = codec.scores(features, condition) - codec.scores(codec.decode(code, condition), condition)
    torch.testing.assert_close(target - estimate, missed, atol=1e-3, rtol=0)


def test_the_error_scale_is_the_variance_along_the_axes():
    codec, features, condition = make_codec()
    variance = codec.scores(features, condition).var(dim=0, correction=0).sum()
    torch.testing.assert_close(codec.error_scale, variance)


def test_features_that_the_condition_decides_leave_nothing_to_hold():
    _, condition = draw()
    features = torch.full((300, 6), 3.0)
    codec = ConditionalCodec(6, 2, 4, 16).eval()
    codec.fit(features, condition)
    codec.fit_whitening(features, condition, 200)
    codec.freeze_start(features, condition)
    codec.freeze_statistics(codec.prepare(features, condition), condition)
    assert codec.n_used == 0
    code = codec(features, condition)
    assert (code == 0).all()
    torch.testing.assert_close(codec.decode(code, condition), features)


@pytest.mark.parametrize("standardize", [False, True])
def test_the_plain_codec(standardize):
    features, condition = draw()
    codec = PlainCodec(6, 2, 9, 16, n_layers=2, standardize=standardize)
    codec.fit(features, condition)
    torch.testing.assert_close(codec.error_scale, features.var(dim=0, correction=0).sum())
    prepared = codec.prepare(features, condition)
    codec.freeze_statistics(prepared, condition)
    codec.eval()
    code = codec(features, condition)
    assert code.shape == (300, 9)
    assert codec.n_used == 9
    target, estimate = codec.compare(code, prepared, condition)
    assert torch.equal(target, features)
    assert torch.equal(estimate, codec.decode(code, condition))
    assert estimate.shape == features.shape
    if standardize:
        torch.testing.assert_close(code.mean(dim=0), torch.zeros(9), atol=1e-4, rtol=0)
    else:
        assert torch.equal(code, codec.encoder(features))


def test_a_plain_code_cannot_shrink_under_its_standardisation():
    features, condition = draw()
    codec = PlainCodec(6, 2, 3, 16, n_layers=2, standardize=True)
    with torch.no_grad():
        codec.encoder[-1].weight.mul_(1e-3)
    codec.fit(features, condition)
    codec.freeze_statistics(codec.prepare(features, condition), condition)
    codec.eval()
    torch.testing.assert_close(codec(features, condition).std(dim=0, correction=0), torch.ones(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("codec", [ConditionalCodec(6, 2, 4, 16), PlainCodec(6, 2, 4, 16, n_layers=2)])
def test_decoding_reads_both_codes_and_encoding_the_features(codec):
    features, condition = (x[:20] for x in draw())
    codec.fit(features, condition)
    if isinstance(codec, ConditionalCodec):
        codec.fit_whitening(features, condition, 15)
    codec.eval()
    code = codec(features, condition).detach().requires_grad_()
    condition.requires_grad_()
    if isinstance(codec, ConditionalCodec):
        nn.init.normal_(codec.refinement[-1].weight)
    codec.decode(code, condition).square().sum().backward()
    assert (code.grad != 0).any()
    assert (condition.grad != 0).any()
