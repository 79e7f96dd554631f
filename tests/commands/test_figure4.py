"""``pvqbounds figure4``: chunks of layers, quantized and pruned at one size, against brute force."""

from __future__ import annotations

import csv
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from command_line import run as command

import pvqbounds as pvq
from pvqbounds.errors import InputError
from pvqbounds.report.figure4 import figure4_rows, plot_figure4
from pvqbounds.results.pairs import formats_of_widths, pairs_of
from pvqbounds.solving.verified_files import verify_file

CHUNK, CHANNELS = 4, 3


def run(*arguments: object) -> int:
    return command(*map(str, arguments))


def layer(seed: int = 0, zero: bool = False):
    """A linear layer of eight inputs, its data, and its weight."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    module = torch.nn.Linear(2 * CHUNK, CHANNELS, dtype=torch.float64)
    data = torch.randn(60, 2 * CHUNK, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64)
    if zero:
        data[:, CHUNK:] = 0.0
    return module, data


def least_errors(gram, weight, grid, kept):
    """The least errors of codes on a grid and of re-fits on `kept` weights: every one of them tried."""
    differences = np.array(list(itertools.product(grid, repeat=len(weight)))) - weight
    quantized = ((differences @ gram) * differences).sum(axis=1).min()
    pruned = weight @ gram @ weight if kept == 0 else math.inf
    for support in itertools.combinations(range(len(weight)), kept):
        v = np.zeros(len(weight))
        chosen = list(support)
        if chosen:
            v[chosen] = np.linalg.solve(gram[np.ix_(chosen, chosen)], gram[chosen] @ weight)
        pruned = min(pruned, (v - weight) @ gram @ (v - weight))
    return quantized, pruned


@pytest.mark.parametrize("bits", [2, 4])
def test_the_boxes_are_those_of_brute_force(bits):
    module, data = layer()
    names = formats_of_widths([bits])
    report = pvq.nn.layer_bounds(module, "", data, formats=names, opt_dim=CHUNK)
    pairs = pairs_of(report)
    assert [pair.inputs for pair in pairs] == [(0, 4), (4, 8)]
    X, W = data.numpy(), module.weight.detach().numpy()
    scale = report.sides[0].slices[0].problem.values.lattice[0]
    grid = scale * np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    for pair in pairs:
        start, stop = pair.inputs
        gram = X[:, start:stop].T @ X[:, start:stop] / len(X)
        errors = [least_errors(gram, w, grid, CHUNK * bits // 16) for w in W[:, start:stop]]
        signal = sum(w @ gram @ w for w in W[:, start:stop])
        for ends, error in zip(pair.ends, map(sum, zip(*errors, strict=True)), strict=True):
            assert ends == pytest.approx([10 * math.log10(signal / error)] * 2, abs=1e-4)
        assert pair.exact
        assert pair.certified
        assert pair.better == ("quantization" if pair.ends[0][0] > pair.ends[1][1] else "pruning")


def test_the_row_of_a_width_counts_and_takes_medians():
    module, data = layer()
    report = pvq.nn.layer_bounds(module, "", data, formats=formats_of_widths([2, 4]), opt_dim=CHUNK)
    rows = figure4_rows(report)
    assert [row["bits"] for row in rows] == [2, 4]
    for row in rows:
        pairs = [pair for pair in pairs_of(report) if pair.bits == row["bits"]]
        assert row["quantization_better"] + row["pruning_better"] + row["undecided"] == row["chunks"] == 2
        lower = [pair.quantization.sqnr_interval[0] for pair in pairs]
        assert row["quantization_sqnr_lower"] == pytest.approx(sum(lower) / 2)
        assert row["exact"] == 2
        assert row["lower_kind"] == "certified"


def test_a_chunk_without_signal_decides_nothing():
    module, data = layer(zero=True)
    report = pvq.nn.layer_bounds(module, "", data, formats=formats_of_widths([3]), opt_dim=CHUNK)
    (row,) = figure4_rows(report)
    assert (row["chunks"], row["dead"]) == (2, 1)
    assert row["quantization_better"] + row["pruning_better"] + row["undecided"] == 1
    assert math.isfinite(row["quantization_sqnr_lower"])


def test_what_a_solver_states_decides_nothing_and_is_not_called_certified():
    module, data = layer()
    report = pvq.nn.layer_bounds(module, "", data, formats=formats_of_widths([4]), opt_dim=CHUNK)
    (before,) = figure4_rows(report)
    assert before["quantization_better"] == 2
    pruned = report.sides[1]
    slices = list(pruned.slices)
    slices[0] = replace(slices[0], bounds=replace(slices[0].bounds, lower_kind="reported", certificate=None))
    planted = replace(report, sides=(report.sides[0], replace(pruned, slices=tuple(slices))))
    (row,) = figure4_rows(planted)
    assert row["lower_kind"] == "reported"
    assert (row["quantization_better"], row["undecided"]) == (1, 1)  # of the chunk that slice is in, no more


def test_a_chunk_is_exact_where_what_is_open_does_not_count_in_its_sum():
    module, data = layer()
    report = pvq.nn.layer_bounds(module, "", data, formats=formats_of_widths([4]), opt_dim=CHUNK)
    quantized = report.sides[0]

    def opened(gap):
        """The report with the first channel of the first chunk open by a part of its error."""
        first = quantized.slices[0]
        lower = first.bounds.error_upper * (1.0 - gap)
        bounds = replace(first.bounds, status="bounded", error_lower=lower)
        slices = (replace(first, bounds=bounds), *quantized.slices[1:])
        return replace(report, sides=(replace(quantized, slices=slices), report.sides[1]))

    assert [pair.exact for pair in pairs_of(opened(1e-9))] == [True, True]
    assert [pair.exact for pair in pairs_of(opened(1e-3))] == [False, True]


def test_the_command_writes_files_that_are_proved_and_drawn_again(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("torch")
    files, table, picture = tmp_path / "f-{layer}.json", tmp_path / "f.csv", tmp_path / "f.svg"
    options = ["--bits", "2,3", "--out-channels", 2, "--jobs", 1, "--methods", "rtn"]
    layers = ["--layer", "block1.0", "--layer", "block2.0"]
    assert run("figure4", *layers, *options, "--json", files, "--table", table, "--plot", picture) == 0
    assert "Wins: provably better" in " ".join(capsys.readouterr().out.split())
    written = [tmp_path / f"f-block{number}.0.json" for number in (1, 2)]
    for path in written:
        assert json.loads(path.read_text())["schema"] == "pvqbounds.layer/2"
        assert all(finding.holds for finding in verify_file(path))
    rows = list(csv.DictReader(table.open()))
    assert [(row["layer"], row["bits"]) for row in rows] == [
        (name, bits) for name in ("block1.0", "block2.0") for bits in ("2", "3")
    ]
    assert {row["lower_kind"] for row in rows} == {"certified"}
    assert float(rows[0]["rtn_sqnr"]) <= float(rows[0]["quantization_sqnr_upper"])
    drawn = picture.read_text()
    assert "<svg" in drawn
    again, second = tmp_path / "again.csv", tmp_path / "again.svg"
    read = [word for path in written for word in ("--results", path)]
    assert run("figure4", *read, "--table", again, "--plot", second) == 0
    assert again.read_text() == table.read_text()
    assert second.stat().st_size == picture.stat().st_size


def test_a_layer_that_fails_does_not_cost_those_before(tmp_path, monkeypatch):
    bounds = pytest.importorskip("pvqbounds.nn.bounds")
    bound = bounds.bound_layer

    def failing(loaded, name, *asked):
        if name == "block2.0":
            raise InputError("planted")
        return bound(loaded, name, *asked)

    monkeypatch.setattr(bounds, "bound_layer", failing)
    table = tmp_path / "f.csv"
    layers = ["--layer", "block1.0", "--layer", "block2.0"]
    assert run("figure4", *layers, "--bits", 2, "--out-channels", 1, "--table", table) == 2
    assert [row["layer"] for row in csv.DictReader(table.open())] == ["block1.0"]


def test_an_interrupt_keeps_and_draws_what_stands(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    bounds = pytest.importorskip("pvqbounds.nn.bounds")
    bound = bounds.bound_layer

    def interrupted(loaded, name, inputs, asked, solve, *rest):
        solve.cancelled.set()  # what the first Ctrl-C does
        return bound(loaded, name, inputs, asked, solve, *rest)

    monkeypatch.setattr(bounds, "bound_layer", interrupted)
    table, picture, result = tmp_path / "f.csv", tmp_path / "f.svg", tmp_path / "f-{layer}.json"
    layers = ["--layer", "block1.0", "--layer", "block2.0", "--jobs", 1]
    files = ["--table", table, "--plot", picture, "--json", result]
    assert run("figure4", *layers, "--bits", "2,3", "--out-channels", 1, *files) == 130
    rows = list(csv.DictReader(table.open()))
    assert {row["layer"] for row in rows} == {"block1.0"}  # the second one was not begun
    for row in rows:
        assert float(row["quantization_sqnr_lower"]) <= float(row["quantization_sqnr_upper"])
    assert all("Interrupted" in row["notes"] for row in rows)
    assert "Note: Interrupted" in " ".join(capsys.readouterr().out.split())
    told = "Note: Interrupted: the intervals are those that stood by then."
    assert told in picture.read_text()
    assert all(finding.holds for finding in verify_file(tmp_path / "f-block1.0.json"))
    again = tmp_path / "again.svg"
    assert run("figure4", "--results", tmp_path / "f-block1.0.json", "--plot", again) == 0
    assert told in again.read_text()


def test_notes_stand_above_a_panel_and_do_not_cover_its_title(tmp_path, monkeypatch):
    figures, texts = (pytest.importorskip(f"matplotlib.{part}") for part in ("figure", "text"))
    module, data = layer()
    report = pvq.nn.layer_bounds(module, "", data, formats=formats_of_widths([2]), opt_dim=CHUNK)
    notes = ("Weights of no file: $a_1$ and $b.", *(f"The {n}th word of many. " * 9 for n in range(4, 8)))
    drawn, save = [], figures.Figure.savefig

    def kept(figure, *arguments, **options):
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(figures.Figure, "savefig", kept)
    plain = replace(report, layer="named", notes=("Of both of them.",))
    plot_figure4([replace(plain, notes=(*plain.notes, *notes)), plain], tmp_path / "f.png")
    (figure,) = drawn
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "Note: Of both of them."
    for axes in figure.axes:
        shown = axes.findobj(texts.Text)
        (title,) = (text for text in shown if text.get_text().endswith(" named"))
        (told,) = (text for text in shown if "boxes exact" in text.get_text())
        above, below = title.get_window_extent(), told.get_window_extent()
        assert below.y1 <= above.y0
        assert above.y1 <= figure.bbox.y1
        assert "both" not in told.get_text()
        assert below.x1 <= figure.bbox.x1
        assert ("$a_1$ and $b." in told.get_text()) == (axes is figure.axes[0])


def test_no_layer_of_a_name_replaces_an_input_or_a_stranger(tmp_path, monkeypatch, capsys):
    bounds = pytest.importorskip("pvqbounds.nn.bounds")
    monkeypatch.chdir(tmp_path)
    one = ["--layer", "block1.0", "--bits", "2", "--out-channels", 1, "--jobs", 1]
    assert run("figure4", *one, "--json", "f-{layer}.json") == 0
    monkeypatch.setattr(bounds, "bound_layer", None)  # nothing is solved any more
    assert run("figure4", *one, "--json", "f-{layer}.json", "--results", "f-block1.0.json") == 2
    assert "would replace its own input" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "g-block1.0.npz").write_bytes(b"somebody's")
    for name in ("figure4", "layer"):
        assert run(name, "--layer", "block1.0", "--json", "g-{layer}.json") == 2
        assert "which no result wrote" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--bits", "16"], "from 2 to 15"),
        (["--bits", "17"], "from 2 to 15"),
        (["--bits", "x"], "bit widths"),
        (["--results", "missing.json"], "missing.json"),
        (["--results", "a.json", "--results", "./a.json"], "is given 2 times"),
        (["--whole", "--opt-dim", "36"], "--whole cuts no chunks"),
        (["--model", "digits", "--layer", "nothing"], "nothing"),
        (["--layer", "block1.0", "--layer", "block2.0", "--json", "one.json"], "{layer}"),
    ],
)
def test_wrong_usage_is_told_in_one_sentence(options, words, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    assert run("figure4", *options) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_results_of_other_formats_are_refused(tmp_path, capsys):
    pytest.importorskip("torch")
    path = tmp_path / "r.json"
    assert run("layer", "--layer", "block1.0", "--out-channels", 1, "--format", "nf4", "--json", path) == 0
    assert run("figure4", "--results", path) == 2
    assert "is on nf4; Figure 4 needs a grid beside the density of its size" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_run_goes_on_where_it_was_interrupted_and_only_there(tmp_path, monkeypatch):
    bounds = pytest.importorskip("pvqbounds.nn.bounds")
    bound, called = bounds.bound_layer, []

    def counting(loaded, name, inputs, asked, solve, *rest):
        called.append(name)
        if len(called) == 2:
            solve.cancelled.set()  # Ctrl-C on the second layer
        return bound(loaded, name, inputs, asked, solve, *rest)

    monkeypatch.setattr(bounds, "bound_layer", counting)
    layers = ["--layer", "block1.0", "--layer", "block2.0", "--jobs", 1, "--out-channels", 1]
    files = ["--json", tmp_path / "f-{layer}.json", "--table", tmp_path / "f.csv", "--resume"]
    assert run("figure4", *layers, *files, "--bits", "2,3") == 130
    assert called == ["block1.0", "block2.0"]
    assert run("figure4", *layers, *files, "--bits", "2,3") == 0
    assert called[2:] == ["block2.0"]  # an interrupted one is no answer
    assert run("figure4", *layers, *files, "--bits", "2,3") == 0
    assert called[3:] == []
    assert len(list(csv.DictReader((tmp_path / "f.csv").open()))) == 4
    for changed in (
        ["--bits", "2"],
        ["--bits", "2,3", "--methods", "rtn"],
        ["--bits", "2,3", "--range", "minmax"],
    ):
        before = len(called)
        assert run("figure4", *layers[:2], "--jobs", 1, "--out-channels", 1, *files, *changed) == 0
        assert called[before:] == ["block1.0"]
    (tmp_path / "f-block1.0.json").write_text("{}")
    assert run("figure4", *layers[:2], "--jobs", 1, "--out-channels", 1, *files, "--bits", "2") == 0
    assert called[-1] == "block1.0"


def test_a_result_of_other_data_or_weights_is_no_answer():
    from pvqbounds.nn import gram_of_layer
    from pvqbounds.nn.again import answers
    from pvqbounds.nn.layer_options import LayerOptions
    from pvqbounds.nn.layers import find_layer

    module, data = layer()
    names = formats_of_widths([2])
    report = pvq.nn.layer_bounds(module, "", data, formats=names, opt_dim=CHUNK, methods=[])
    target, grams = find_layer(module, ""), gram_of_layer(module, "", data)
    asked = LayerOptions(formats=names, opt_dim=CHUNK, methods=[])
    assert answers(report, target, grams, asked)
    assert not answers(report, target, gram_of_layer(module, "", 1.001 * data), asked)
    assert not answers(report, target, grams, replace(asked, opt_dim=2))
    assert not answers(report, target, grams, replace(asked, out_channels=2))
    module.weight.data[1, 5] += 1e-12
    assert not answers(report, find_layer(module, ""), grams, asked)
