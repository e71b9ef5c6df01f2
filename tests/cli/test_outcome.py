from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import typer

from indiseek_sc.cli._outcome import ENDINGS, check_ending, name_options, new_file, new_folder, reported


def names(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("make", [new_file, new_folder])
def test_failure_creates_nothing(tmp_path, make, error):
    with pytest.raises(error), make(tmp_path / "made", force=False) as unfinished:
        (unfinished / "part" if make is new_folder else unfinished).write_text("half")
        assert not (tmp_path / "made").exists()
        raise error
    assert names(tmp_path) == []


def test_failure_keeps_existing_outputs(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    (folder / "part").write_text("old")
    with pytest.raises(ValueError), new_file(file, force=True) as unfinished:
        unfinished.write_text("half")
        raise ValueError
    with pytest.raises(ValueError), new_folder(folder, force=True) as unfinished:
        (unfinished / "part").write_text("half")
        raise ValueError
    assert file.read_text() == (folder / "part").read_text() == "old"
    assert names(tmp_path) == ["file", "folder", "folder/part"]


def test_success_replaces_files_of_the_same_name_only(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    for name in ("part", "other"):
        (folder / name).write_text("old")
    with new_file(file, force=True) as made, new_folder(folder, force=True) as filled:
        made.write_text("new")
        (filled / "part").write_text("new")
    assert (file.read_text(), (folder / "part").read_text(), (folder / "other").read_text()) == ("new", "new", "old")
    assert names(tmp_path) == ["file", "folder", "folder/other", "folder/part"]


def test_files_in_subfolders_are_replaced(tmp_path):
    (tmp_path / "folder" / "tables").mkdir(parents=True)
    for name in ("part", "other"):
        (tmp_path / "folder" / "tables" / name).write_text("old")
    with new_folder(tmp_path / "folder", force=True) as filled:
        (filled / "tables").mkdir()
        (filled / "tables" / "part").write_text("new")
    there = tmp_path / "folder" / "tables"
    assert ((there / "part").read_text(), (there / "other").read_text()) == ("new", "old")
    assert names(tmp_path) == ["folder", "folder/tables", "folder/tables/other", "folder/tables/part"]


def test_current_empty_folder_can_be_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_folder(Path(), force=False) as filled:
        (filled / "part").write_text("new")
    assert names(tmp_path) == ["part"]


def test_new_folder_has_default_permissions(tmp_path):
    (tmp_path / "usual").mkdir()
    with new_folder(tmp_path / "made", force=False) as filled:
        (filled / "part").write_text("new")
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_empty_output_folder_is_not_created(tmp_path):
    with new_folder(tmp_path / "made", force=False):
        pass
    assert names(tmp_path) == []


def test_zarr_stores_are_replaced_and_other_folders_are_not(tmp_path):
    store, folder = tmp_path / "cells.zarr", tmp_path / "other.zarr"
    store.mkdir()
    (store / "zarr.json").touch()
    (store / "old").touch()
    with pytest.raises(FileExistsError), new_file(store, force=False):
        pass
    with new_file(store, force=True) as made:
        made.mkdir()
        (made / "zarr.json").touch()
    folder.mkdir()
    with pytest.raises(IsADirectoryError), new_file(folder, force=True):
        pass
    assert names(tmp_path) == ["cells.zarr", "cells.zarr/zarr.json", "other.zarr"]


def test_suffix_of_outputs_is_checked():
    for ending in ENDINGS:
        check_ending(Path(f"out{ending}"))
    for name in ("out", "out.h5", "out.h5mu.gz", "out.csv"):
        with pytest.raises(ValueError, match=r"must end in \.h5mu, \.zarr or \.h5ad"):
            check_ending(Path(name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rna_layer='x': none", "--rna-layer='x': none"),
        ("set up with adt_input='normalized'.", "set up with --adt-input='normalized'."),
        ("modalities['adt_layer']: no modality", "--adt: no modality"),
        ("Say which: read(path, adt='NAME')", "Say which: --adt NAME"),
        (
            "If so: modalities={'rna_layer': 'a', 'adt_layer': 'b'}; if not: check_sizes=False",
            "If so: --rna 'a' --adt 'b'",
        ),
        ("exclude=() would keep them", "--exclude none would keep them"),
        ("exclude: there is no 'x'", "--exclude: there is no 'x'"),
        ("batch_key='x': no", "--batch-key='x': no"),
        ("modalities={'adt_layer': 'atac', ...}", "modalities={'adt_layer': 'atac', ...}"),
    ],
)
def test_arguments_are_replaced_by_options(text, expected):
    assert name_options(text) == expected


def test_files_and_folders_do_not_replace_each_other(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(IsADirectoryError), new_file(tmp_path, force=True):
        pass
    with pytest.raises(NotADirectoryError), new_folder(tmp_path / "file", force=True):
        pass
    for make in (new_file, new_folder):
        with pytest.raises(FileNotFoundError, match="there is no folder"), make(tmp_path / "no" / "made", force=True):
            pass


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\n  lines"), "error: two lines"),
        (KeyError("'x' is not a column"), "error: 'x' is not a column"),
        (MemoryError(), "error: MemoryError"),
        (AttributeError("unforeseen"), "error: unforeseen"),
    ],
)
def test_errors_are_printed_in_one_line(capsys, error, line):
    with pytest.raises(typer.Exit) as ended, reported(debug=False):
        raise error
    assert (ended.value.exit_code, capsys.readouterr().err) == (1, line + "\n")


def test_irrelevant_warnings_are_not_printed(capsys):
    with reported(debug=False):
        warnings.warn("few\ncells", UserWarning, stacklevel=1)
        warnings.warn("will change", FutureWarning, stacklevel=1)
        warnings.warn("var_names are not unique", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: few cells\n"
