"""A store that is proved again before anything is said of it, and what a stranger may have put into one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest
from command_line import run

pytest.importorskip("torch")
from small_network import small_data, small_network

import pvqbounds as pvq
from pvqbounds.errors import InputError, OutputError
from pvqbounds.network.proof import read_proved, unit_findings
from pvqbounds.storage.network_store import Store, unit_files


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "small"
    pvq.nn.network_bounds(
        small_network(), small_data(), store=place, formats=["int3", "int4"], methods=["rtn"]
    )
    return place


@pytest.fixture
def store(whole, tmp_path):
    return Store.open(shutil.copytree(whole, tmp_path / "s"))


def lie(store: Store) -> None:
    """A lower end that could be true, and follows from nothing."""
    path, _ = unit_files(store.path, "3", "int3")
    document = json.loads(path.read_text())
    entry = document["sides"][0]["per_channel"][0]
    entry["error_lower"] = 0.5 * (entry["error_lower"] + entry["error_upper"])
    path.write_text(json.dumps(document))


def test_a_store_that_holds_is_read_and_says_so(store, capsys):
    assert all(finding.holds for findings in unit_findings(store).values() for finding in findings)
    assert read_proved(store).proved
    assert not store.read().proved
    for options, told in (([], "as the store has them"), (["--verify"], "No choice")):
        assert run("allocate", str(store.path), "--bits-per-weight", "5", *options) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert told in said
        assert ("as the store has them" in said) == (not options)


def test_a_lie_that_could_be_true_is_refused_where_proofs_are_asked_for(store, tmp_path, capsys):
    lie(store)
    with pytest.raises(InputError, match=r"int3\.json does not hold in .*per_channel\[0\]"):
        read_proved(store)
    for command in (
        ["allocate", str(store.path), "--bits-per-weight", "5"],
        ["report", str(store.path), "--out", str(tmp_path / "p.html")],
    ):
        if command[0] == "report":
            pytest.importorskip("jinja2")
        assert run(*command, "--verify") == 2
        assert "does not hold" in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "p.html").exists()
        assert run(*command) == 0
    assert "All numbers are as the store has them" in (tmp_path / "p.html").read_text()
    assert run("verify", str(store.path)) == 1


def test_a_page_says_that_it_was_proved(store, tmp_path):
    pytest.importorskip("jinja2")
    assert run("report", str(store.path), "--verify", "--out", str(tmp_path / "p.html")) == 0
    page = (tmp_path / "p.html").read_text()
    assert "All results were proved again before this page was made." in page
    assert "as the store has them" not in page


def test_a_store_without_results_is_a_sentence(store, capsys):
    shutil.rmtree(store.path / "units")
    for command in (
        ["allocate", "--bits-per-weight", "4"],
        ["report"],
        ["verify"],
        ["allocate", "--bytes", "9", "--verify"],
    ):
        assert run(command[0], str(store.path), *command[1:]) == 2
        assert "result" in capsys.readouterr().err


def test_a_store_without_layers_gets_them(store):
    """A store whose run was ended before it had any layer begins like a new one."""
    document = json.loads((store.path / "network.json").read_text())
    document |= {"layers": [], "left_out": [], "tied": [], "digest": hashlib.sha256(b"").hexdigest()}
    (store.path / "network.json").write_text(json.dumps(document))
    assert Store.open(store.path).read().planned == 0
    found = pvq.nn.network_bounds(small_network(), small_data(), store=store.path, methods=["rtn"])
    assert found.done == found.planned == 6


# --------------------------------------------------------------------------- a stranger's store


def huge(path):
    with path.open("wb") as file:
        file.truncate(2**40)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def garbage(path):
    path.write_bytes(b"\xff\xfe{" * 10)


def deep(path):
    path.write_text("[" * 200_000)


@pytest.mark.parametrize("spoil", [huge, pipe, garbage, deep])
@pytest.mark.parametrize("name", ["network.json", "units/3/int3.json", "units/3/int3.npz"])
@pytest.mark.parametrize("command", [["allocate", "--bits-per-weight", "5"], ["verify"]])
def test_files_of_a_stranger_are_refused_in_a_sentence(store, capsys, spoil, name, command):
    spoil(store.path / name)
    assert run(command[0], str(store.path), *command[1:]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in told
    assert name.rpartition("/")[2] in told or "no store" in told


def test_a_unit_that_is_a_broken_link_does_not_stand(store, capsys):
    path, _ = unit_files(store.path, "3", "int3")
    path.unlink()
    path.symlink_to(path)
    assert run("allocate", str(store.path), "--bits-per-weight", "5") == 0
    assert "have no result yet: 1 of the sides" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("where", ["units/3/int3.npz", "units/3", "units", "grams", "grams/3.npz", ".lock"])
def test_nothing_is_written_or_cleared_through_a_link(store, tmp_path, where):
    """A stranger's store must not lead a run to somebody's own files."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".settings.json").write_text("mine")
    (home / "int3.npz").write_text("mine")
    place = store.path / where
    folder = place.is_dir()
    if folder:
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(home if folder else home / "int3.npz")
    with pytest.raises(OutputError, match="is a link, and what is written would go to where it leads"):
        pvq.nn.network_bounds(small_network(), small_data(), store=store.path, methods=["rtn"])
    assert [path.read_text() for path in sorted(home.iterdir())] == ["mine", "mine"]


def test_a_page_is_not_written_through_a_link(store, tmp_path, capsys):
    pytest.importorskip("jinja2")
    (tmp_path / "mine.html").write_text("mine")
    (store.path / "report.html").symlink_to(tmp_path / "mine.html")
    assert run("report", str(store.path)) == 2
    assert "is a link" in capsys.readouterr().err
    assert (tmp_path / "mine.html").read_text() == "mine"
    assert run("report", str(store.path), "--out", str(tmp_path / "other.html")) == 0
