"""A script for ``test_checkpoint.py``: train with a checkpoint until the process kills itself.

It does so in the second epoch of the stage whose number is given.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from make_saved_model import draw_cells

from indiseek_sc import IndiSeek


class Kill(Callback):
    """Ends the process as nothing else does, in a stage that is counted from 1."""

    def __init__(self, number: int) -> None:
        self.number, self.n_begun = number, 0

    def on_fit_start(self, trainer, pl_module):
        self.n_begun += 1

    def on_train_epoch_start(self, trainer, pl_module):
        if self.n_begun == self.number and trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def train(checkpoint: Path, number: int) -> None:
    mdata = draw_cells()
    IndiSeek.setup_mudata(mdata, batch_key="donor")
    model = IndiSeek(mdata, n_shared=3, n_specific=3, n_hidden=8, n_layers=1, n_components=5)
    model.train(
        3,
        plan_kwargs={"gate_critics": False, "n_critic_warmup_steps": 0},
        callbacks=[Kill(number)],
        enable_progress_bar=False,
        checkpoint_dir=checkpoint,
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    train(Path(sys.argv[1]), int(sys.argv[2]))
