from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import typer

from indiseek_sc.cli._outcome import new_file, new_folder, reported


def names(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("make", [new_file, new_folder])
def test_nothing_appears_after_a_failure(tmp_path, make, error):
    with pytest.raises(error), make(tmp_path / "made", force=False) as unfinished:
        (unfinished / "part" if make is new_folder else unfinished).write_text("half")
        assert not (tmp_path / "made").exists()
        raise error
    assert names(tmp_path) == []


def test_a_failure_keeps_what_was_there(tmp_path):
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


def test_success_replaces_the_file_and_only_files_of_the_same_names_in_a_folder(tmp_path):
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


def test_an_empty_folder_may_be_filled_also_if_it_is_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_folder(Path(), force=False) as filled:
        (filled / "part").write_text("new")
    assert names(tmp_path) == ["part"]


def test_a_new_folder_can_be_read_as_any_other(tmp_path):
    (tmp_path / "usual").mkdir()
    with new_folder(tmp_path / "made", force=False):
        pass
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_files_and_folders_are_not_taken_for_each_other(tmp_path):
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
def test_an_error_is_one_line(capsys, error, line):
    with pytest.raises(typer.Exit) as ended, reported(debug=False):
        raise error
    assert (ended.value.exit_code, capsys.readouterr().err) == (1, line + "\n")


def test_warnings_are_lines_without_those_that_mean_nothing_to_a_user(capsys):
    with reported(debug=False):
        warnings.warn("few\ncells", UserWarning, stacklevel=1)
        warnings.warn("will change", FutureWarning, stacklevel=1)
        warnings.warn("var_names are not unique", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: few cells\n"
