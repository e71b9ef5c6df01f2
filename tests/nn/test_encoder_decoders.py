from __future__ import annotations

import pytest
import torch
from torch import nn

from indiseek_sc.nn import ConditionalEncoderDecoder, PlainEncoderDecoder, SpecificEncoderDecoder


def draw(n_cells: int = 300, n_features: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and a condition of two columns that decides the mean and the spread of some of them."""
    torch.manual_seed(0)
    condition = torch.randn(n_cells, 2)
    features = torch.randn(n_cells, n_features) * torch.linspace(3, 0.5, n_features)
    features[:, 0] *= (condition[:, 0] / 2).exp()
    features[:, 1] += condition[:, 1].square()
    return features @ torch.randn(n_features, n_features) + condition @ torch.randn(2, n_features) + 1, condition


def make_encoder_decoder(
    n_specific: int = 4, n_shared: int = 0, *, bent: bool = True
) -> tuple[ConditionalEncoderDecoder, torch.Tensor, torch.Tensor]:
    """An encoder-decoder at the start of the critics' stage, whose conditional whitening and, if bent, shape know something."""
    features, condition = draw()
    encoder_decoder = ConditionalEncoderDecoder(6, 2, n_specific, 16)
    encoder_decoder.fit(features, condition, n_shared)
    encoder_decoder.fit_whitening(features, condition, 200)
    encoder_decoder.in_use.copy_(encoder_decoder.conditional.varies)  # narrow ones too
    encoder_decoder.flow.varies.copy_(encoder_decoder.conditional.varies)
    if bent:
        nn.init.normal_(encoder_decoder.flow.network.layers[-1].weight, std=0.6)
    else:
        encoder_decoder.flow.give_up()
    encoder_decoder.eval()
    encoder_decoder.freeze_start(features, condition)
    encoder_decoder.freeze_statistics(encoder_decoder.prepare(features, condition), condition)
    return encoder_decoder, features, condition


def disturb(encoder_decoder: SpecificEncoderDecoder) -> None:
    """Move what the stages train, as if they had."""
    nn.init.normal_(encoder_decoder.correction[-1].weight, std=0.3)
    nn.init.normal_(encoder_decoder.correction[-1].bias)


def test_at_the_start_decoding_undoes_encoding_along_the_axes():
    encoder_decoder, features, condition = make_encoder_decoder()
    decoded = encoder_decoder.decode(encoder_decoder(features, condition), condition)
    torch.testing.assert_close(
        encoder_decoder.scores(decoded, condition), encoder_decoder.scores(features, condition), atol=5e-3, rtol=0
    )
    # Across the axes stays what the ridge regression says.
    across = torch.eye(6) - encoder_decoder.principal.components @ encoder_decoder.principal.components.T
    torch.testing.assert_close(
        decoded @ across, (encoder_decoder.baseline(condition) + encoder_decoder.principal.center) @ across
    )


def test_with_all_axes_decoding_gives_the_features_back():
    encoder_decoder, features, condition = make_encoder_decoder(n_specific=6)
    torch.testing.assert_close(
        encoder_decoder.decode(encoder_decoder(features, condition), condition), features, atol=5e-3, rtol=0
    )


def test_the_start_is_the_conditional_whitening_evened_out_in_shape():
    encoder_decoder, features, condition = make_encoder_decoder()
    whitened = encoder_decoder.conditional(condition).whiten(encoder_decoder.scores(features, condition))
    bent = encoder_decoder.flow(whitened, condition)
    assert (bent - whitened).abs().mean() > 0.05
    standardized = (bent - bent.mean(dim=0)) / bent.std(dim=0, correction=0)
    torch.testing.assert_close(encoder_decoder(features, condition), standardized, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("n_shared", "n_used"), [(0, 4), (3, 3), (5, 1), (6, 1), (9, 1)])
def test_there_are_as_many_dimensions_as_the_shared_representation_leaves(n_shared, n_used):
    encoder_decoder, features, condition = make_encoder_decoder(n_shared=n_shared)
    disturb(encoder_decoder)
    assert encoder_decoder.n_used == n_used
    for training in (True, False):
        encoder_decoder.train(training)
        latent = encoder_decoder(features, condition)
        assert latent.shape == (300, 4)
        assert (latent[:, n_used:] == 0).all()
        assert (latent[:, :n_used].std(dim=0) > 0.5).all()


def draw_axes(brought: list[float]) -> torch.Tensor:
    """Independent columns of exactly these variances."""
    generator = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(4000, len(brought), generator=generator, dtype=torch.float64))
    axes -= axes.mean(dim=0)
    return (axes / axes.std(dim=0, correction=0) * torch.tensor(brought).sqrt()).float()


def test_dimensions_that_bring_next_to_nothing_are_left_out():
    features = draw_axes([9.0, 0.01, 4.0, 0.02, 6.0, 1.5])
    condition = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    encoder_decoder = ConditionalEncoderDecoder(6, 2, 6, 16)
    encoder_decoder.fit(features, condition)
    encoder_decoder.fit_whitening(features, condition, 3000)
    assert encoder_decoder.used.tolist() == [0, 1, 2, 3]
    assert encoder_decoder.flow.varies.tolist() == [1, 1, 1, 1, 0, 0]
    encoder_decoder.flow.give_up()
    encoder_decoder.freeze_start(features, condition)
    disturb(encoder_decoder)
    encoder_decoder.freeze_statistics(encoder_decoder.prepare(features, condition), condition)
    for training in (True, False):
        encoder_decoder.train(training)
        latent = encoder_decoder(features, condition)
        assert (latent[:, 4:] == 0).all()
        assert (latent[:, encoder_decoder.used].std(dim=0) > 0.5).all()


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
    encoder_decoder = ConditionalEncoderDecoder(12, 2, 12, 16)
    encoder_decoder.fit(features, condition)
    encoder_decoder.fit_whitening(features, condition, 3000)
    assert encoder_decoder.used.tolist() == list(range(n_used))


def test_without_idle_dimensions_decoding_gives_back_what_they_do_not_hold():
    encoder_decoder, features, condition = make_encoder_decoder(n_specific=6, bent=False)
    idle = 3
    encoder_decoder.in_use[idle] = 0
    encoder_decoder.freeze_start(features, condition)
    encoder_decoder.freeze_statistics(encoder_decoder.prepare(features, condition), condition)
    decoded = encoder_decoder.decode(encoder_decoder(features, condition), condition)
    whitened = encoder_decoder.conditional(condition).whiten(encoder_decoder.scores(decoded, condition))
    expected = encoder_decoder.conditional(condition).whiten(encoder_decoder.scores(features, condition))
    expected[:, idle] = 0
    torch.testing.assert_close(whitened, expected, atol=2e-3, rtol=0)


def test_frozen_statistics_give_unit_variance_whatever_the_correction():
    encoder_decoder, features, condition = make_encoder_decoder()
    disturb(encoder_decoder)
    prepared = encoder_decoder.prepare(features, condition)
    encoder_decoder.freeze_statistics(prepared, condition)
    latent = encoder_decoder.encode(prepared, condition)
    torch.testing.assert_close(latent.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(latent.std(dim=0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_in_training_the_batch_standardises_and_in_evaluation_cells_stand_alone():
    encoder_decoder, features, condition = make_encoder_decoder()
    disturb(encoder_decoder)
    encoder_decoder.train()
    few = encoder_decoder(features[:50], condition[:50])
    torch.testing.assert_close(few.std(dim=0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    encoder_decoder.eval()
    latent = encoder_decoder(features, condition)
    assert torch.equal(latent, encoder_decoder(features, condition))
    torch.testing.assert_close(encoder_decoder(features[:3], condition[:3]), latent[:3])
    assert torch.equal(encoder_decoder.decode(latent, condition), encoder_decoder.decode(latent, condition))


def test_the_refinement_adds_to_the_closed_form():
    encoder_decoder, features, condition = make_encoder_decoder()
    latent = encoder_decoder(features, condition)
    closed = encoder_decoder.decode(latent, condition)
    nn.init.normal_(encoder_decoder.refinement[-1].weight)
    refined = encoder_decoder.decode(latent, condition)
    torch.testing.assert_close(
        refined - closed, encoder_decoder.refinement(torch.cat([latent, condition], dim=1)), atol=1e-4, rtol=0
    )


def test_prepared_cells_encode_as_their_features_do():
    encoder_decoder, features, condition = make_encoder_decoder()
    disturb(encoder_decoder)
    prepared = encoder_decoder.prepare(features, condition)
    assert {x.shape[0] for x in prepared.values()} == {300}
    assert torch.equal(encoder_decoder.encode(prepared, condition), encoder_decoder(features, condition))


def test_the_comparison_is_what_decoding_loses_along_the_axes():
    encoder_decoder, features, condition = make_encoder_decoder(bent=False)  # shape takes no part in the comparison
    disturb(encoder_decoder)
    prepared = encoder_decoder.prepare(features, condition)
    latent = encoder_decoder.encode(prepared, condition)
    target, estimate = encoder_decoder.compare(latent, prepared, condition)
    missed = encoder_decoder.scores(features, condition) - encoder_decoder.scores(
        encoder_decoder.decode(latent, condition), condition
    )
    torch.testing.assert_close(target - estimate, missed, atol=1e-3, rtol=0)


def test_the_error_scale_is_the_variance_along_the_axes():
    encoder_decoder, features, condition = make_encoder_decoder()
    variance = encoder_decoder.scores(features, condition).var(dim=0, correction=0).sum()
    torch.testing.assert_close(encoder_decoder.error_scale, variance)


def test_features_that_the_condition_decides_leave_nothing_to_hold():
    _, condition = draw()
    features = torch.full((300, 6), 3.0)
    encoder_decoder = ConditionalEncoderDecoder(6, 2, 4, 16).eval()
    encoder_decoder.fit(features, condition)
    encoder_decoder.fit_whitening(features, condition, 200)
    encoder_decoder.freeze_start(features, condition)
    encoder_decoder.freeze_statistics(encoder_decoder.prepare(features, condition), condition)
    assert encoder_decoder.n_used == 0
    latent = encoder_decoder(features, condition)
    assert (latent == 0).all()
    torch.testing.assert_close(encoder_decoder.decode(latent, condition), features)


@pytest.mark.parametrize("standardize", [False, True])
def test_the_plain_encoder_decoder(standardize):
    features, condition = draw()
    encoder_decoder = PlainEncoderDecoder(6, 2, 9, 16, n_layers=2, standardize=standardize)
    encoder_decoder.fit(features, condition)
    torch.testing.assert_close(encoder_decoder.error_scale, features.var(dim=0, correction=0).sum())
    prepared = encoder_decoder.prepare(features, condition)
    encoder_decoder.freeze_statistics(prepared, condition)
    encoder_decoder.eval()
    latent = encoder_decoder(features, condition)
    assert latent.shape == (300, 9)
    assert encoder_decoder.n_used == 9
    target, estimate = encoder_decoder.compare(latent, prepared, condition)
    assert torch.equal(target, features)
    assert torch.equal(estimate, encoder_decoder.decode(latent, condition))
    assert estimate.shape == features.shape
    if standardize:
        torch.testing.assert_close(latent.mean(dim=0), torch.zeros(9), atol=1e-4, rtol=0)
    else:
        assert torch.equal(latent, encoder_decoder.encoder(features))


def test_a_plain_representation_cannot_shrink_under_its_standardisation():
    features, condition = draw()
    encoder_decoder = PlainEncoderDecoder(6, 2, 3, 16, n_layers=2, standardize=True)
    with torch.no_grad():
        encoder_decoder.encoder[-1].weight.mul_(1e-3)
    encoder_decoder.fit(features, condition)
    encoder_decoder.freeze_statistics(encoder_decoder.prepare(features, condition), condition)
    encoder_decoder.eval()
    torch.testing.assert_close(
        encoder_decoder(features, condition).std(dim=0, correction=0), torch.ones(3), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    "encoder_decoder", [ConditionalEncoderDecoder(6, 2, 4, 16), PlainEncoderDecoder(6, 2, 4, 16, n_layers=2)]
)
def test_decoding_reads_both_representations_and_encoding_the_features(encoder_decoder):
    features, condition = (x[:20] for x in draw())
    encoder_decoder.fit(features, condition)
    if isinstance(encoder_decoder, ConditionalEncoderDecoder):
        encoder_decoder.fit_whitening(features, condition, 15)
    encoder_decoder.eval()
    latent = encoder_decoder(features, condition).detach().requires_grad_()
    condition.requires_grad_()
    if isinstance(encoder_decoder, ConditionalEncoderDecoder):
        nn.init.normal_(encoder_decoder.refinement[-1].weight)
    encoder_decoder.decode(latent, condition).square().sum().backward()
    assert (latent.grad != 0).any()
    assert (condition.grad != 0).any()
