from __future__ import annotations

import pytest
import torch

from indiseek_sc.module import JointLatent


def test_the_joint_representation_weighs_both_modalities_equally():
    torch.manual_seed(0)
    first, second = 100 * torch.randn(80, 3), 0.01 * torch.randn(80, 2)
    joint = JointLatent([3, 2])
    joint.fit([first, second])
    latent = joint([first, second])
    assert latent.shape == (80, 5)
    assert latent.var(dim=0, correction=0).sum().item() == pytest.approx(2, rel=1e-4)  # 1 for each modality
    centred = torch.cat([(x - x.mean(dim=0)) / x.var(dim=0, correction=0).sum().sqrt() for x in (first, second)], dim=1)
    torch.testing.assert_close(latent @ latent.T, centred @ centred.T, atol=1e-4, rtol=1e-4)  # inner products agree
    joint.fit([torch.ones(10, 3), torch.ones(10, 2)])
    assert (joint([torch.ones(10, 3), torch.ones(10, 2)]) == 0).all()
