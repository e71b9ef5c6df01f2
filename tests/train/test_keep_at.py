from __future__ import annotations

from types import SimpleNamespace

import torch

from indiseek_sc.train import KeepAt


def test_each_part_is_kept_at_its_own_epoch():
    parts = {name: torch.nn.Linear(1, 1) for name in ("early", "late", "cut_short")}
    keep = KeepAt(parts, {"early": 1, "late": 3, "cut_short": 9})
    for epoch in range(5):
        for part in parts.values():
            torch.nn.init.constant_(part.weight, epoch)
        trainer = SimpleNamespace(sanity_checking=epoch == 0, current_epoch=epoch - 1)
        keep.on_validation_end(trainer, None)
    keep.restore()
    assert {name: part.weight.item() for name, part in parts.items()} == {"early": 1, "late": 3, "cut_short": 4}
    assert keep.best_epochs == {}
