"""The commands of the studies: what they print and write, their figures, and how they exit."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from conforming import written_as_published

from pvqbounds.commands import studies as commands
from pvqbounds.errors import InputError
from pvqbounds.studies import figures, rows, specs, views, weights
from pvqbounds.studies.expected import expected_errors, truncated_student
from pvqbounds.studies.specs import distribution_rows
from pvqbounds.studies.tensors import tensor_errors

save_file = pytest.importorskip("safetensors.numpy").save_file

SQNR = ("quantization_sqnr", "pruning_sqnr", "pruning_sqnr_corrected")
QUICK = ["--monte-carlo", "0"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    rng = np.random.default_rng(0)
    save_file(
        {
            "a.weight": rng.standard_normal((40, 30)).astype(np.float32),
            "b.weight": rng.standard_t(2, (40, 30)),
            "nan.weight": np.full((2, 2), np.nan),
            "count": np.arange(3),
        },
        "model.safetensors",
    )
    save_file({"codes": np.ones((3, 3), dtype=np.int8)}, "integers.safetensors")
    return tmp_path


def fits(text: str) -> bool:
    return max(map(len, text.splitlines())) <= 80


def test_distributions_as_in_the_documentation(capsys):
    arguments = ["distributions", "--distribution", "gaussian", "--bits", "2-8", "--json", "g.json"]
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert all(number in printed for number in ("19.26", "5.58", "4.30", "24.08"))
    assert "standard errors" in printed
    assert fits(printed)
    document = json.loads(Path("g.json").read_text())
    assert document["schema"] == "pvqbounds.distributions/1"
    assert written_as_published("g.json")
    assert [row["bits"] for row in document["rows"]] == list(range(2, 9))
    row = document["rows"][2]
    assert list(row)[:3] == ["distribution", "bits", "density"]
    for key in ("distribution", "bits", "density", *SQNR, "kurtosis", "zeros", "scale"):
        assert key in row
    assert row["distribution"] == "gaussian"
    assert (row["density"], row["kurtosis"]) == (0.25, 3.0)
    assert round(row["quantization_sqnr"], 2) == 19.26
    assert round(row["scale"], 4) == 0.3386


def test_several_distributions_and_one_without_a_second_moment(capsys):
    names = ["gaussian", "scipy:cauchy", "student-t:df=2,range=20"]
    chosen = [part for name in names for part in ("--distribution", name)]
    assert run("distributions", *chosen, "--bits", "2,4", "--json", "d.json", "--crossover", *QUICK) == 0
    printed = capsys.readouterr().out
    assert "no second moment: SQNR is undefined" in printed
    assert "28.35" in printed  # the crossover at 4 bits
    assert fits(printed)
    found = json.loads(Path("d.json").read_text())["rows"]
    assert [row["distribution"] for row in found] == [name for name in names for _ in range(2)]
    assert found[2]["quantization_sqnr"] is None


def test_groups(capsys):
    assert run("distributions", "--distribution", "laplace", "--bits", "4", "--group-size", "32") == 0
    assert "groups of 32" in capsys.readouterr().out


def test_weights_as_in_the_documentation(capsys):
    assert run("weights", "--checkpoint", "model.safetensors", "--json", "w.json") == 0
    printed = capsys.readouterr().out
    assert "left out: model nan.weight 4 of 4 weights are not finite" in printed
    assert fits(printed)
    document = json.loads(Path("w.json").read_text())
    assert document["schema"] == "pvqbounds.weights/1"
    assert written_as_published("w.json")
    assert [tensor["tensor"] for tensor in document["skipped"]] == ["nan.weight"]
    found = document["rows"]
    assert [(row["tensor"], row["bits"]) for row in found] == [
        (name, bits) for name in ("a.weight", "b.weight") for bits in range(2, 9)
    ]
    for key in ("model", "tensor", "bits", "density", *SQNR, "kurtosis", "zeros", "scale"):
        assert key in found[0]
    assert found[0]["model"] == "model"


def test_weights_alone_measure_the_embedded_network(capsys):
    assert run("weights", "--bits", "4") == 0
    printed = capsys.readouterr().out
    assert "digits" in printed
    assert "block1.0.weight" in printed
    assert fits(printed)


def test_parquet_holds_what_json_holds():
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    assert (
        run("weights", "--checkpoint", "model.safetensors", "--parquet", "w.parquet", "--json", "w.json") == 0
    )
    table = pyarrow_parquet.read_table("w.parquet")
    assert table.to_pylist() == json.loads(Path("w.json").read_text())["rows"]
    assert str(table.schema.field("note").type) == "string"  # though all are null
    assert run("distributions", "--distribution", "uniform", "--parquet", "d.parquet", *QUICK) == 0
    assert pyarrow_parquet.read_table("d.parquet").num_rows == 7


def test_json_needs_no_pyarrow(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run("weights", "--checkpoint", "model.safetensors", "--json", "w.json") == 0
    assert run("weights", "--checkpoint", "model.safetensors", "--parquet", "w.parquet") == 2
    assert "pvqbounds[parquet]" in capsys.readouterr().err


def released(name: str = "model", kurtosis: float = 0.0) -> None:
    Path("released").mkdir(exist_ok=True)
    entry = {"sample_kurtosis": kurtosis, "quant_sqnr": 18.0, "quant_sparsity": 0.2, "pruning_sqnr": 5.0}
    entry |= {"pruning_mse": 1e-3, "pruning_sqnr_corrected": 4.0}
    Path(f"released/{name}_4_bits_mse.json").write_text(json.dumps({"a": entry}))


def test_released_figures_stand_beside_ours(capsys):
    released()
    arguments = [
        "weights",
        "--checkpoint",
        "model.safetensors",
        "--released",
        "released",
        "--json",
        "both.json",
    ]
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert "Ours minus released" in printed
    assert fits(printed)
    found = json.loads(Path("both.json").read_text())["rows"]
    mine, theirs = (
        next(r for r in found if (r["source"], r["tensor"], r["bits"]) == (source, "a.weight", 4))
        for source in ("pvqbounds", "released")
    )
    assert theirs["kurtosis"] == 3.0
    assert f"{mine['quantization_sqnr'] - 18.0:+.2f}" in printed
    released(kurtosis=-3.0)
    assert run("weights", "--released", "released") == 0
    assert "damaged by float16: 1 of 1 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["distributions", "--distribution", "student-t", "--bits", "2,4", *QUICK],
        ["distributions", "--figure", "2", "--bits", "2", "--distribution", "uniform", *QUICK],
        ["weights", "--checkpoint", "model.safetensors", "--bits", "2,8"],
    ],
    ids=["figure 1", "figure 2", "figure 3"],
)
def test_figures_in_both_themes_as_vectors(arguments, monkeypatch):
    pytest.importorskip("matplotlib")
    assert run(*arguments, "--plot", "f.svg", "--theme", "both") == 0
    light, dark = (Path(f"f-{theme}.svg").read_text() for theme in ("light", "dark"))
    for text, background in ((light, "#ffffff"), (dark, "#16181d")):
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert background in text
        assert "<image" not in text


def test_figures_are_drawn_on_the_grid_that_was_asked_for(monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(figures, "draw_distribution", lambda *given, **grid: drawn.append((given, grid)))
    monkeypatch.setattr(figures, "draw_tails", lambda study, *_: drawn.append(study))
    figure_one = ["distributions", "--distribution", "gaussian", "--bits", "2", *QUICK, "--plot", "f.svg"]
    assert run(*figure_one) == 0
    assert run(*figure_one, "--narrow") == 0
    (wide, _), (narrow, grid) = drawn
    assert grid == {"narrow": True}
    gaussian = distribution_rows("gaussian", [2], narrow=True)[0]
    sqnr = narrow[1][0].sqnr(narrow[1][0].losses.quantization)
    assert sqnr == gaussian.quantization_sqnr != wide[1][0].sqnr(wide[1][0].losses.quantization)

    monkeypatch.setattr(figures.study_tails, "__defaults__", ((4.0,), None))  # one range: the rest is alike
    assert run(*figure_one, "--figure", "2", "--group-size", "16", "--narrow") == 0
    limit = specs.as_distribution(truncated_student(4.0))
    expected = expected_errors(limit, [2], narrow=True, group_size=16)[0]
    assert drawn[-1].errors[0][0].losses == expected.losses
    assert "groups of 16" in drawn[-1].grid
    assert run(*figure_one, "--group-size", "16") == 2  # Figure 1 has one scale for all


def test_figures_as_pdf():
    pytest.importorskip("matplotlib")
    assert run("weights", "--checkpoint", "model.safetensors", "--bits", "4", "--plot", "f.pdf") == 0
    assert Path("f.pdf").read_bytes().startswith(b"%PDF")


def test_the_region_of_figure_three(monkeypatch):
    pytest.importorskip("matplotlib")
    from pvqbounds.studies import figures

    rng = np.random.default_rng(0)
    drawn = [
        rows.weight_row("m", f"{df}.{i}", each)
        for df in (1.5, 3.0, 30.0)
        for i in range(10)
        for each in tensor_errors(rng.standard_t(df, 500), [2, 4])
    ]
    figures.draw_weights(drawn, Path("f3.svg"), figures.THEMES["dark"])
    assert Path("f3.svg").stat().st_size > 10_000
    with pytest.raises(InputError, match="nothing to draw"):
        figures.draw_weights([], Path("f3.svg"), figures.THEMES["dark"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["weights", "--checkpoint", "missing.safetensors"], "no file"),
        (["weights", "--checkpoint", "integers.safetensors"], "I8"),
        (["weights", "--checkpoint", "model.safetensors", "--tensor", "x*"], "matches"),
        (["weights", "--model", "digit"], "digits"),
        (["weights", "--bits", "1"], "2 to 16"),
        (["weights", "--bits", "8-2"], "empty"),
        (["weights", "--bits", "two"], "like 4"),
        (["weights", "--bits", "2-99999999999"], "2 to 16"),
        (["weights", "--device", "tpu"], "tpu"),
        (["weights", "--released", "missing"], "no folder"),
        (["weights", "--json", "missing/w.json"], "cannot be written"),
        (["weights", "--checkpoint", "model.safetensors", "--json", "model.safetensors"], "own input"),
        (["weights", "--parquet", "w.csv"], ".parquet"),
        (["weights", "--plot", "w.gif"], ".png"),
        (["weights", "--plot", "w.svg", "--theme", "blue"], "light"),
        (["weights", "--plot", "w.svg", "--json", "w.svg"], "one file"),
        (["distributions", "--distribution", "gausian"], "gaussian"),
        (["distributions", "--figure", "3"], "1 or 2"),
        (["distributions", "--group-size", "1"], "group size"),
        (["distributions", "--monte-carlo", "-1"], "two draws"),
        (["distributions", "--distribution", "sample:none.npy"], "none.npy"),
        (["distributions", "--distribution", "scipy:cauchy", "--plot", "f.svg", *QUICK], "second moment"),
    ],
)
def test_wrong_usage(arguments, says, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert says in " ".join(error.split())
    assert error.startswith("Error: ")
    assert not list(Path().glob(".*"))  # nothing half-written


def test_a_broken_model_among_several_loses_nothing(capsys):
    arguments = ["--checkpoint", "model.safetensors", "--checkpoint", "bad.safetensors"]
    Path("bad.safetensors").write_bytes(b"bad")
    assert run("weights", *arguments, "--bits", "4", "--json", "w.json") == 0
    assert "left out: bad *" in capsys.readouterr().out
    assert len(json.loads(Path("w.json").read_text())["rows"]) == 2


def test_an_interrupted_study_keeps_what_it_has(monkeypatch):
    def interrupted(*arguments: object, **options: object) -> object:
        if weights_seen.append(1) or len(weights_seen) > 1:
            raise KeyboardInterrupt
        return tensor_errors(*arguments, **options)  # type: ignore[arg-type]

    weights_seen: list[int] = []
    monkeypatch.setattr(weights, "tensor_errors", interrupted)
    assert run("weights", "--checkpoint", "model.safetensors", "--json", "w.json") == 130
    assert {row["tensor"] for row in json.loads(Path("w.json").read_text())["rows"]} == {"a.weight"}


def test_bit_widths():
    assert commands.bits_of("2-8") == list(range(2, 9))
    assert commands.bits_of("8, 2,2-3") == [2, 3, 8]
    for bad in ("", "-", "2-", "a", "2-x", "17", "4-"):
        with pytest.raises(InputError):
            commands.bits_of(bad)


def test_tables_say_what_is_undefined():
    found = [rows.weight_row("m", "t", each) for each in tensor_errors(np.zeros(4), [4])]
    table = views.weights_view(found, [rows.Skipped("m", f"s{i}", "is empty") for i in range(20)])
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    text = capture.get()
    assert "all weights are zero" in text
    assert "12 more" in text
    assert math.isnan(found[0].quantization_sqnr)


def test_a_long_name_is_folded_and_no_number_is_cut():
    from rich.console import Console

    name = "model.language_model.layers.17.self_attn.q_proj.weight"
    found = [rows.weight_row("m", name, each) for each in tensor_errors(np.arange(9.0), [4])]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(views.weights_view(found, []))
    text = capture.get()
    assert fits(text)
    assert "…" not in text
    assert "kurtosis" in text
    cells = [line[:20].strip() for line in text.splitlines()]
    assert name in "".join(cells)


def test_the_studies_are_imported_only_when_asked_for():
    program = (
        "import sys, pvqbounds, pvqbounds.cli\n"
        "heavy = {'torch', 'numba', 'scipy', 'matplotlib', 'pyarrow', 'safetensors'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "assert 'pvqbounds.studies.expected' not in sys.modules\n"
        "from pvqbounds import cli\n"
        "try: cli.main(['weights', '--bits', '2'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
