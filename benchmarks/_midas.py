"""Run MIDAS (He et al. 2024, Nature Biotechnology 42, 1594) in a separate environment.

scmidas 0.3.0 requires older releases of torch, pandas and mudata. :func:`run_midas` therefore calls
another Python interpreter, which runs this file as a script without importing the rest of the
project.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anndata
import mudata
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

SETTINGS = {"batch_size": 256, "learning_rate": 3e-4}
"""Settings that the README of scmidas advises for new data, except for the epochs."""


def run_midas(
    python: Path,
    mosaic: MuData,
    hidden: Mapping[str, AnnData],
    batch_key: str,
    *,
    seed: int,
    epochs: Sequence[int],
    batch_size: int = SETTINGS["batch_size"],
    learning_rate: float = SETTINGS["learning_rate"],
) -> list[dict[str, np.ndarray]]:
    """Train scmidas once, and return its results after given numbers of epochs.

    Parameters
    ----------
    python
        Interpreter of an environment with scmidas.
    mosaic
        Training cells, counts in ``X``; all cells of a batch have the same modalities.
    hidden
        By modality, values of some of these cells that the mosaic lacks. They are encoded, but not
        used for training.
    batch_key
        Column in the ``obs`` of each modality.
    seed
        Seed of weights and batches.
    epochs
        Numbers of epochs after which results are returned.
    batch_size, learning_rate
        Settings of scmidas.

    Returns
    -------
    For each number of epochs: ``latents`` (the biological state ``c`` of all cells),
    ``imputed_<modality>`` (counts of all cells), ``hidden_<modality>`` (``c`` from the hidden
    values alone, in the batch of their cells), ``epochs``, and ``seconds`` of CPU time of the
    training.
    """
    options = {"batch_key": batch_key, "seed": seed, "epochs": sorted(epochs)}
    options |= {"batch_size": batch_size, "learning_rate": learning_rate}
    with TemporaryDirectory() as name:
        folder = Path(name)
        mosaic.write_h5mu(folder / "mosaic.h5mu")
        for modality, cells in hidden.items():
            cells.write_h5ad(folder / f"hidden_{modality}.h5ad")
        command = [str(python.absolute()), str(Path(__file__).absolute()), json.dumps(options)]
        subprocess.run(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}, check=True)
        return [dict(np.load(folder / f"after_{n}.npz")) for n in options["epochs"]]


def describe(model: Any, hidden: Mapping[str, AnnData], batch_key: str) -> dict[str, np.ndarray]:
    """Return representations and imputed counts of a scmidas model."""
    import torch

    found = {"latents": model.get_latent_representation()}
    found |= {f"imputed_{modality}": model.get_imputed_values(modality=modality) for modality in model.mods}
    batches = [str(name) for name in model.batch_names]
    for modality, cells in hidden.items():
        numbers = [batches.index(name) for name in cells.obs[batch_key].astype(str)]
        values = {"x": {modality: torch.from_numpy(cells.to_df().to_numpy(np.float32))}, "e": {}}
        with torch.inference_mode():
            _, _, _, _, _, found[f"hidden_{modality}"], *_ = model.net.eval()(
                {**values, "s": {"joint": torch.tensor(numbers)[:, None]}}
            )
    return {name: np.asarray(values) for name, values in found.items()}


def train(folder: Path, options: Mapping[str, Any]) -> None:
    """Train scmidas on the files in a folder, and write its results to the folder."""
    import lightning
    import scmidas
    import torch

    torch.set_num_threads(1)
    lightning.seed_everything(options["seed"])
    mdata = mudata.read_h5mu(folder / "mosaic.h5mu")
    hidden = {path.stem.removeprefix("hidden_"): anndata.read_h5ad(path) for path in folder.glob("hidden_*.h5ad")}

    class Record(lightning.Callback):
        """Write results after given epochs, excluding the time that this takes."""

        def on_train_start(self, trainer: Any, model: Any) -> None:
            self.start = time.process_time()

        def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
            epochs = trainer.current_epoch + 1
            if epochs in options["epochs"]:
                now = time.process_time()
                figures = {"epochs": epochs, "seconds": now - self.start}
                np.savez(folder / f"after_{epochs}.npz", **figures, **describe(model, hidden, options["batch_key"]))
                model.net.train()
                self.start += time.process_time() - now

    scmidas.MIDAS.setup_mudata(mdata, batch_key=options["batch_key"])
    rates = dict.fromkeys(("lr_net", "lr_dsc"), options["learning_rate"])
    workers = {"num_workers": 0, "persistent_workers": False, "pin_memory": False}  # each would start another process
    model = scmidas.MIDAS(
        mdata,
        configs={**scmidas.load_config(), **rates, **workers},
        batch_size=options["batch_size"],
        save_model_path=str(folder / "checkpoints"),
    )
    model.train(
        max_epochs=max(options["epochs"]),
        accelerator="cpu",
        callbacks=[Record()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


if __name__ == "__main__":
    train(Path.cwd(), json.loads(sys.argv[1]))
