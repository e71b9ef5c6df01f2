from __future__ import annotations

import pytest
import torch
from torch import nn

from indiseek_sc.nn import ConditionalEncoderDecoder, PlainEncoderDecoder, SpecificEncoderDecoder


def draw(n_cells: int = 300, n_features: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a condition, and features whose mean and variance partly depend on it."""
    torch.manual_seed(0)
    condition = torch.randn(n_cells, 2)
    features = torch.randn(n_cells, n_features) * torch.linspace(3, 0.5, n_features)
    features[:, 0] *= (condition[:, 0] / 2).exp()
    features[:, 1] += condition[:, 1].square()
    return features @ torch.randn(n_features, n_features) + condition @ torch.randn(2, n_features) + 1, condition


def make_encoder_decoder(
    n_specific: int = 4, n_shared: int = 0, *, with_flow: bool = True
) -> tuple[ConditionalEncoderDecoder, torch.Tensor, torch.Tensor]:
    """Fit an encoder-decoder up to adversarial training, with or without a flow."""
    features, condition = draw()
    encoder_decoder = ConditionalEncoderDecoder(6, 2, n_specific, 16)
    encoder_decoder.fit(features, condition, n_shared)
    encoder_decoder.fit_whitening(features, condition, 200)
    encoder_decoder.in_use.copy_(encoder_decoder.conditional.varies)  # keep low-variance dimensions
    encoder_decoder.flow.varies.copy_(encoder_decoder.conditional.varies)
    if with_flow:
        nn.init.normal_(encoder_decoder.flow.network.layers[-1].weight, std=0.6)
    else:
        encoder_decoder.flow.disable()
    encoder_decoder.eval()
    encoder_decoder.freeze_start(features, condition)
    encoder_decoder.freeze_statistics(encoder_decoder.prepare(features, condition), condition)
    return encoder_decoder, features, condition


def disturb(encoder_decoder: SpecificEncoderDecoder) -> None:
    """Change the trained parts as training would."""
    nn.init.normal_(encoder_decoder.correction[-1].weight, std=0.3)
    nn.init.normal_(encoder_decoder.correction[-1].bias)


def test_before_training_decoding_inverts_encoding_along_the_axes():
    encoder_decoder, features, condition = make_encoder_decoder()
    decoded = encoder_decoder.decode(encoder_decoder(features, condition), condition)
    torch.testing.assert_close(
        encoder_decoder.scores(decoded, condition), encoder_decoder.scores(features, condition), atol=5e-3, rtol=0
    )
    # The component orthogonal to the axes is that of the ridge regression.
    orthogonal = torch.eye(6) - encoder_decoder.principal.components @ encoder_decoder.principal.components.T
    torch.testing.assert_close(
        decoded @ orthogonal, (encoder_decoder.baseline(condition) + encoder_decoder.principal.center) @ orthogonal
    )


def test_with_all_axes_decoding_reconstructs_the_features():
    encoder_decoder, features, condition = make_encoder_decoder(n_specific=6)
    torch.testing.assert_close(
        encoder_decoder.decode(encoder_decoder(features, condition), condition), features, atol=5e-3, rtol=0
    )


def test_the_start_is_the_flow_of_the_conditional_whitening():
    encoder_decoder, features, condition = make_encoder_decoder()
    whitened = encoder_decoder.conditional(condition).whiten(encoder_decoder.scores(features, condition))
    transformed = encoder_decoder.flow(whitened, condition)
    assert (transformed - whitened).abs().mean() > 0.05
    standardized = (transformed - transformed.mean(dim=0)) / transformed.std(dim=0, correction=0)
    torch.testing.assert_close(encoder_decoder(features, condition), standardized, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("n_shared", "n_used"), [(0, 4), (3, 3), (5, 1), (6, 1), (9, 1)])
def test_the_number_of_dimensions_is_limited_by_the_shared_representation(n_shared, n_used):
    encoder_decoder, features, condition = make_encoder_decoder(n_shared=n_shared)
    disturb(encoder_decoder)
    assert encoder_decoder.n_used == n_used
    for training in (True, False):
        encoder_decoder.train(training)
        latent = encoder_decoder(features, condition)
        assert latent.shape == (300, 4)
        assert (latent[:, n_used:] == 0).all()
        assert (latent[:, :n_used].std(dim=0) > 0.5).all()


def draw_axes(variances: list[float]) -> torch.Tensor:
    """Draw uncorrelated columns of exactly these variances."""
    generator = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(4000, len(variances), generator=generator, dtype=torch.float64))
    axes -= axes.mean(dim=0)
    return (axes / axes.std(dim=0, correction=0) * torch.tensor(variances).sqrt()).float()


def test_low_variance_dimensions_are_removed():
    features = draw_axes([9.0, 0.01, 4.0, 0.02, 6.0, 1.5])
    condition = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    encoder_decoder = ConditionalEncoderDecoder(6, 2, 6, 16)
    encoder_decoder.fit(features, condition)
    encoder_decoder.fit_whitening(features, condition, 3000)
    assert encoder_decoder.used.tolist() == [0, 1, 2, 3]
    assert encoder_decoder.flow.varies.tolist() == [1, 1, 1, 1, 0, 0]
    encoder_decoder.flow.disable()
    encoder_decoder.freeze_start(features, condition)
    disturb(encoder_decoder)
    encoder_decoder.freeze_statistics(encoder_decoder.prepare(features, condition), condition)
    for training in (True, False):
        encoder_decoder.train(training)
        latent = encoder_decoder(features, condition)
        assert (latent[:, 4:] == 0).all()
        assert (latent[:, encoder_decoder.used].std(dim=0) > 0.5).all()


@pytest.mark.parametrize(
    ("variances", "n_used"),
    [
        ([1.0, 1.0, *[0.09] * 10], 12),  # ten of .09 are a third of the total
        (
            [1.0, 1.0, 0.12, *[0.01] * 9],
            2,
        ),  # .12 exceeds a fifth of the mean of all, but not of the mean of the kept ones
        ([1.0, 0.9, 0.21, *[0.001] * 9], 3),  # .21 exceeds a fifth of .95
        ([9.0, *[0.12] * 11], 12),  # one dimension of high variance does not make the others removable
        ([9.0, *[0.05] * 11], 1),  # unless they are at most a tenth of the total
        ([1.0] * 12, 12),
    ],
)
def test_low_variance_dimensions_are_relative_to_the_kept_ones(variances, n_used):
    features, condition = draw_axes(variances), torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    encoder_decoder = ConditionalEncoderDecoder(12, 2, 12, 16)
    encoder_decoder.fit(features, condition)
    encoder_decoder.fit_whitening(features, condition, 3000)
    assert encoder_decoder.used.tolist() == list(range(n_used))


def test_without_a_dimension_decoding_reconstructs_the_others():
    encoder_decoder, features, condition = make_encoder_decoder(n_specific=6, with_flow=False)
    removed = 3
    encoder_decoder.in_use[removed] = 0
    encoder_decoder.freeze_start(features, condition)
    encoder_decoder.freeze_statistics(encoder_decoder.prepare(features, condition), condition)
    decoded = encoder_decoder.decode(encoder_decoder(features, condition), condition)
    whitened = encoder_decoder.conditional(condition).whiten(encoder_decoder.scores(decoded, condition))
    expected = encoder_decoder.conditional(condition).whiten(encoder_decoder.scores(features, condition))
    expected[:, removed] = 0
    torch.testing.assert_close(whitened, expected, atol=2e-3, rtol=0)


def test_frozen_statistics_give_unit_variance_with_any_correction():
    encoder_decoder, features, condition = make_encoder_decoder()
    disturb(encoder_decoder)
    prepared = encoder_decoder.prepare(features, condition)
    encoder_decoder.freeze_statistics(prepared, condition)
    latent = encoder_decoder.encode(prepared, condition)
    torch.testing.assert_close(latent.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(latent.std(dim=0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_batch_statistics_are_used_only_in_training():
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


def test_the_refinement_is_added_to_the_closed_form():
    encoder_decoder, features, condition = make_encoder_decoder()
    latent = encoder_decoder(features, condition)
    closed = encoder_decoder.decode(latent, condition)
    nn.init.normal_(encoder_decoder.refinement[-1].weight)
    refined = encoder_decoder.decode(latent, condition)
    torch.testing.assert_close(
        refined - closed, encoder_decoder.refinement(torch.cat([latent, condition], dim=1)), atol=1e-4, rtol=0
    )


def test_prepared_cells_are_encoded_like_their_features():
    encoder_decoder, features, condition = make_encoder_decoder()
    disturb(encoder_decoder)
    prepared = encoder_decoder.prepare(features, condition)
    assert {x.shape[0] for x in prepared.values()} == {300}
    assert torch.equal(encoder_decoder.encode(prepared, condition), encoder_decoder(features, condition))


def test_the_compared_error_is_the_reconstruction_error_along_the_axes():
    encoder_decoder, features, condition = make_encoder_decoder(with_flow=False)  # the comparison leaves out the flow
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


def test_constant_features_need_no_dimensions():
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


def test_a_standardised_plain_representation_cannot_shrink():
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
def test_decoding_depends_on_both_representations(encoder_decoder):
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
