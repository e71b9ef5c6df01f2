"""Saved models: no code is executed, damage is reported, failed saves keep the former model."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from indiseek_sc import IndiSeek
from indiseek_sc.model import _files
from indiseek_sc.model._files import decode, encode, read_values, write_values

from .conftest import all_latents, assert_equal_latents
from .make_saved_model import ARCHIVE, LATENTS, draw_cells, latents_of


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return the folder of a saved model of 240 cells."""
    shutil.unpack_archive(ARCHIVE, tmp_path / "model")
    return tmp_path / "model"


def test_values_survive_encoding():
    table = pd.DataFrame({"epoch": [0.5, np.nan], "name": ["a", "b"]}, index=pd.Index([3, 4], name="epoch"))
    values = {
        "numbers": [1, 2.5, np.float32(0.5), np.int64(7), True, np.bool_(False), None, float("inf")],
        "text": np.array(["x", "yy"]),
        "objects": np.array(["x", 1, None], dtype=object),
        "latents": np.array([[1, -1]], dtype=np.int8),
        "pair": (1, ("a", torch.arange(3))),
        "keys": {1: "one", ("a", 2): "two", "$name": 3},
        "table": table,
        "empty": [{}, [], ()],
    }
    tensors: dict[str, torch.Tensor] = {}
    found = decode(json.loads(json.dumps(encode(values, tensors))), tensors)
    assert found["numbers"] == [1, 2.5, 0.5, 7, True, False, None, float("inf")]
    np.testing.assert_array_equal(found["text"], values["text"])
    assert found["objects"].tolist() == ["x", 1, None]
    assert found["latents"].dtype == np.int8
    assert found["pair"][1][1].tolist() == [0, 1, 2]
    assert found["keys"] == values["keys"]
    assert found["empty"] == values["empty"]
    pd.testing.assert_frame_equal(found["table"], table)
    with pytest.raises(TypeError, match="mine/0: a function cannot be saved"):
        encode({"mine": [test_values_survive_encoding]}, {})


def test_only_the_used_part_of_a_storage_is_written(tmp_path):
    write_values(tmp_path, "x", {"part": torch.zeros(1_000_000)[:3]})
    assert (tmp_path / "x.pt").stat().st_size < 3_000
    assert read_values(tmp_path, "x")["part"].shape == (3,)


def test_a_model_of_format_1_gives_the_same_representations(folder, capsys):
    assert ARCHIVE.stat().st_size < 200_000
    mdata, noted = draw_cells(), dict(np.load(folder / LATENTS))
    for model, cells in (
        (IndiSeek.load(folder, mdata, accelerator="cpu"), None),
        (IndiSeek.load(folder, adata=False), mdata.copy()),
    ):
        for name, latent in latents_of(model, cells).items():
            np.testing.assert_allclose(latent, noted[name], atol=1e-4, err_msg=name)
    model = IndiSeek.load(folder, mdata)
    assert model.stages_ == ["shared", "specific"]
    assert model.split.test.tolist() == list(range(40))
    assert len(model.history["shared/validation_loss"]) == 4
    assert IndiSeek.load_registry(folder)["setup_args"]["batch_key"] == "donor"
    IndiSeek.view_setup_args(folder)
    assert "IndiSeek.setup_mudata(\n    mdata,\n    rna_layer=None" in capsys.readouterr().out


def test_a_loaded_model_can_be_saved_again(folder, tmp_path):
    model = IndiSeek.load(folder, draw_cells())
    model.save(tmp_path / "again", prefix="b-", save_anndata=True)
    assert {file.name for file in (tmp_path / "again").iterdir()} == {"b-model.pt", "b-model.json", "b-mdata.h5mu"}
    again = IndiSeek.load(tmp_path / "again", prefix="b-")
    assert_equal_latents(all_latents(model), all_latents(again))
    pd.testing.assert_frame_equal(model.history["shared/validation_loss"], again.history["shared/validation_loss"])
    assert again.run_name == model.run_name
    with pytest.raises(FileNotFoundError, match=r"model.pt: there is no such file.*prefix"):
        IndiSeek.load(tmp_path / "again")
    with pytest.raises(ValueError, match=r"again already exists.*overwrite=True"):
        model.save(tmp_path / "again")
    model.save(tmp_path / "again", overwrite=True)
    with pytest.warns(UserWarning, match="no data were given, and none were saved"):
        assert IndiSeek.load(tmp_path / "again").adata is None


@pytest.mark.parametrize("prefix", ["../outside-", "/tmp/outside-", "folder/x-"])
def test_prefixes_cannot_leave_the_folder(folder, tmp_path, prefix):
    model = IndiSeek.load(folder, adata=False)
    with pytest.raises(ValueError, match="prefix must be the beginning of file names, without folders"):
        model.save(tmp_path / "new", prefix=prefix)
    with pytest.raises(ValueError, match="prefix must be"):
        IndiSeek.load(folder, adata=False, prefix=prefix)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


class Bomb:
    """An object that executes code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def _update_checksum(folder: Path) -> None:
    """Replace the checksum by that of the present weights, as an attacker would."""
    settings = json.loads((folder / "model.json").read_text())
    settings["sha256"] = _files._hash(folder / "model.pt")
    (folder / "model.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("how", ["pickle", "torch", "legacy"])
def test_an_untrusted_folder_executes_no_code(folder, tmp_path, how):
    mark, weights = tmp_path / "code was executed", folder / "model.pt"
    if how == "pickle":
        weights.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        torch.save({"weights/x": Bomb(mark)}, weights, _use_new_zipfile_serialization=how == "torch")
    assert not mark.exists()
    _update_checksum(folder)
    with pytest.raises(ValueError, match=r"model\.pt"):
        IndiSeek.load(folder, adata=False)
    (folder / "model.json").unlink()  # as in the former format
    for read in (lambda: IndiSeek.load(folder, adata=False), lambda: IndiSeek.load_registry(folder)):
        with pytest.raises(ValueError, match=r"no model.json beside it.*could run any code.*train again and save"):
            read()
    assert not mark.exists()


@pytest.mark.parametrize("n_done", [0, 1])
def test_an_interrupted_write_leaves_old_or_new_values(tmp_path, monkeypatch, n_done):
    write_values(tmp_path, "x", {"number": 0, "tensor": torch.tensor(0)})
    moved = []

    def replace(source, target):
        if len(moved) == n_done:
            raise SystemExit  # as if the process were killed here
        moved.append(target)
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(_files.os, "replace", replace)
        with pytest.raises(SystemExit):
            write_values(tmp_path, "x", {"number": 1, "tensor": torch.tensor(1)})
    assert read_values(tmp_path, "x") == {"number": n_done, "tensor": torch.tensor(n_done)}
    write_values(tmp_path, "x", {"number": 2, "tensor": torch.tensor(2)})
    assert read_values(tmp_path, "x")["number"] == 2
    assert {file.name for file in tmp_path.iterdir()} == {"x.pt", "x.json"}


FULL = """
import resource, signal, sys
from indiseek_sc import IndiSeek
model = IndiSeek.load(sys.argv[1], adata=False)
model.lambda_ = 7.0
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (0, 10_000, 100_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        model.save(sys.argv[1], overwrite=True)
    except OSError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="file size limits are not supported")
def test_a_full_disk_leaves_the_former_model(folder):
    settings = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True, "timeout": 120}
    result = subprocess.run([sys.executable, "-c", FULL, str(folder)], **settings)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("model.pt could not be written") == result.stdout.count("Make room on the disk") == 3
    assert not list(folder.glob("*.new"))
    loaded, noted = IndiSeek.load(folder, draw_cells()), np.load(folder / LATENTS)
    assert loaded.lambda_ == 100.0
    np.testing.assert_allclose(loaded.get_latent_representation(), noted["joint"], atol=1e-4)


def test_weights_of_another_architecture_are_rejected(folder):
    values = read_values(folder, "model")
    values["weights"] = OrderedDict(list(values["weights"].items())[:-1])
    write_values(folder, "model", values)
    with pytest.raises(ValueError, match="weights do not fit the architecture of version .* Train and save"):
        IndiSeek.load(folder, adata=False)
