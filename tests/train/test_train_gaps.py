"""Runs against the bounds: the numbers are right, and a false one is found."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from conforming import written_as_published  # noqa: E402
from rich.console import Console  # noqa: E402
from train_helpers import few_digits, recipe, tiny  # noqa: E402

import pvqbounds as pvq  # noqa: E402
from pvqbounds import cli  # noqa: E402
from pvqbounds.errors import InputError  # noqa: E402
from pvqbounds.nn.bounds import layer_bounds  # noqa: E402
from pvqbounds.nn.grams import gram_of_layer  # noqa: E402
from pvqbounds.nn.layers import find_layer  # noqa: E402
from pvqbounds.train import layer_gaps  # noqa: E402
from pvqbounds.train.accuracy_table import AccuracyTable, Cell  # noqa: E402
from pvqbounds.train.data import calibration_batches  # noqa: E402
from pvqbounds.train.fit import fine_tune  # noqa: E402
from pvqbounds.train.layer_gaps import RunAgainst, against_bounds  # noqa: E402
from pvqbounds.train.outcome import PrunedLayer, QuantizedLayer, read_outcome, write_outcome  # noqa: E402
from pvqbounds.train.presets import Pruning, Quantization  # noqa: E402
from pvqbounds.train.views import TASKS, accuracy_view, against_view  # noqa: E402

DATA = few_digits()
SHORT = ["--model", "train_helpers:tiny", "--epochs", "2", "--batch-size", "256"]


def run(*arguments: str) -> int:
    try:
        cli.main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def hold(trained, model=None, **options):
    found = against_bounds(model or tiny(), calibration_batches(DATA), trained.layers, **options)
    return {layer.layer: layer for layer in found}


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantized_layers(per_channel):
    trained = fine_tune(tiny(), DATA, recipe(Quantization(bits=3, per_channel=per_channel), epochs=2))
    found, dense = hold(trained), tiny()
    inputs = DATA.calibration.__getitems__(range(len(DATA.calibration))).inputs
    assert set(found) == {"first", "second", "head"}
    for name in ("first", "second"):
        layer, place = found[name], find_layer(dense, name)
        gram, weight = gram_of_layer(dense, place, inputs).grams[0].matrix, place.weight
        after = find_layer(trained.model, name).weight
        error = np.einsum("ci,ij,cj", after - weight, gram, after - weight)
        assert layer.error == pytest.approx(error, rel=1e-5)
        assert layer.sqnr == pytest.approx(
            10 * np.log10(np.einsum("ci,ij,cj", weight, gram, weight) / error), abs=1e-4
        )
        assert not layer.impossible
        assert layer.side.lower_kind == "certified"
        assert layer.sqnr <= layer.side.sqnr_interval[1]
        assert 0.0 <= layer.gap[0] <= layer.gap[1]
        # the same interval as for given scales
        scales = trained.layers[name].scales
        again = layer_bounds(dense, name, inputs, bits=trained.layers[name].bits, scales=list(scales))
        assert again.range_method == "given"
        assert again.quantization.sqnr_interval == pytest.approx(layer.side.sqnr_interval, abs=1e-6)


def test_whatever_the_scales_that_were_learned():
    trained = fine_tune(tiny(), DATA, recipe(Quantization(bits=2, per_channel=True), epochs=2))
    second = {"second": trained.layers["second"]}
    (layer,) = against_bounds(tiny(), calibration_batches(DATA), second, out_channels=2, any_scale=True)
    assert layer.free is not None
    assert layer.free.format == "int2:any"
    assert not layer.impossible
    for s, free, error in zip(
        layer.side.slices, layer.free.slices, layer.side.method_errors["trained"], strict=True
    ):
        assert free.bounds.error_lower <= s.bounds.error_upper
        assert free.bounds.error_upper <= error * (1.0 + 1e-12)
        assert layer.least_allowed(s.channel) == max(s.bounds.error_lower, free.bounds.error_lower)
    shown = RunAgainst("r", "m", "dense", 0.9, 0.8, (layer,), 1.0)
    console = Console(width=100, record=True)
    console.print(against_view(shown))
    assert "any scale, dB" in console.export_text()
    pruned = fine_tune(tiny(), DATA, recipe(Pruning(), epochs=1))
    with pytest.raises(InputError, match="any_scale"):
        hold(pruned, any_scale=True)


@pytest.mark.parametrize(
    "compression",
    [Pruning(sparsity=0.75, every=2), Pruning(scope="pattern", pattern="2:4"), Pruning(0.5, "channel")],
)
def test_pruned_layers(compression):
    trained = fine_tune(tiny(), DATA, recipe(compression, epochs=2))
    for name, layer in hold(trained).items():
        assert not layer.impossible
        for s, v in zip(layer.side.slices, trained.layers[name].weight, strict=True):
            if s.problem.pattern is None:
                assert s.problem.nnz == np.count_nonzero(v)
            else:  # along the channels, as a convolution of the whole kernel reads them
                assert s.problem.stride == find_layer(trained.model, name).block
            assert s.problem.error(v).upper >= s.bounds.error_lower


def test_latent_weights_are_a_reference_of_their_own():
    trained = fine_tune(tiny(), DATA, recipe(Quantization(bits=3), epochs=2))
    layer = hold(trained, trained.model, reference="latent")["second"]
    outcome = trained.layers["second"]
    for s in layer.side.slices:
        np.testing.assert_array_equal(s.problem.weight, outcome.latent[s.channel])
        np.testing.assert_array_equal(s.problem.codes_of_nearest(), outcome.codes[s.channel])
    pruned = fine_tune(tiny(), DATA, recipe(Pruning(), epochs=2))
    with pytest.raises(InputError, match="no latent weights"):
        hold(pruned, pruned.model, reference="latent")


def test_less_error_than_is_possible_is_found(monkeypatch):
    trained = fine_tune(tiny(), DATA, recipe(Quantization(bits=3), epochs=2))
    honest = layer_gaps.solve_channels

    def lying(problems, **options):
        bounds = honest(problems, **options)
        return [replace(b, error_lower=b.signal) for b in bounds[:1]] + bounds[1:]

    monkeypatch.setattr(layer_gaps, "solve_channels", lying)
    found = hold(trained)
    assert all(layer.impossible == (0,) for layer in found.values())
    outcome = RunAgainst("run", "tiny", "dense", 0.9, 0.8, tuple(found.values()), 1.0)
    assert len(outcome.failures) == 3
    assert "layer 'second', channel 0" in outcome.failures[1]

    def reported(problems, **options):
        return [replace(b, lower_kind="reported") for b in lying(problems, **options)]

    monkeypatch.setattr(layer_gaps, "solve_channels", reported)
    assert not any(layer.impossible for layer in hold(trained).values())  # a reported bound proves nothing


def test_layers_that_do_not_fit_the_model():
    trained = fine_tune(tiny(), DATA, recipe(Quantization(bits=3), epochs=2))
    with pytest.raises(InputError, match=r"shape \(5, 9\), but the run left \(4, 9\)"):
        against_bounds(tiny(5), calibration_batches(DATA), trained.layers)
    layer = trained.layers["first"]
    spoiled = {"first": replace(layer, bits=2, codes=np.full_like(layer.codes, 7))}
    with pytest.raises(InputError, match="Layer 'first', channel 0: A code lies outside"):
        against_bounds(tiny(), calibration_batches(DATA), spoiled)


def test_outcomes_go_through_their_file(tmp_path):
    rng = np.random.default_rng(0)
    quantized = QuantizedLayer(3, rng.integers(-4, 4, (2, 5)), np.array([0.1, 0.3]), None)
    pruned = PrunedLayer(0.5, np.float64(np.float32(rng.standard_normal((2, 4)))), (2, 4), 2)
    write_outcome(tmp_path / "layers.safetensors", {"a.0": quantized, "b": pruned})
    again = read_outcome(tmp_path / "layers.safetensors")
    np.testing.assert_array_equal(again["a.0"].weight, quantized.weight)
    np.testing.assert_array_equal(again["b"].weight, pruned.weight)
    assert (again["a.0"].bits, again["b"].pattern, again["b"].density) == (3, (2, 4), 0.5)
    assert again["b"].stride == 2
    content = (tmp_path / "layers.safetensors").read_bytes()
    for damaged in (b"", content[:40], b"\x00" * 64, content.replace(b"compressed/1", b"compressed/9")):
        (tmp_path / "damaged.safetensors").write_bytes(damaged)
        with pytest.raises(InputError):
            read_outcome(tmp_path / "damaged.safetensors")


def test_the_commands_from_training_to_the_bounds(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    preset = ["--preset", "digits-int4"]
    assert run("train", "qat", *preset, *SHORT, "--bits", "3", "--out", "q", "--json", "q.json") == 0
    assert "accuracy" in capsys.readouterr().out
    pruning = ["train", "prune", "--preset", "digits-75", *SHORT, "--set", "every=1", "--out", "p"]
    assert run(*pruning) == 0
    recon = ["train", "reconstruct", *preset, "--model", "train_helpers:tiny", "--out", "r"]
    assert run(*recon) == 0
    assert {p.name for p in (tmp_path / "q").iterdir()} == {
        "config.json", "checkpoint.pt", "result.json", "layers.safetensors", "model.safetensors",
    }  # fmt: skip
    result = json.loads((tmp_path / "q.json").read_text())
    assert result == json.loads((tmp_path / "q" / "result.json").read_text())
    assert result["layers"]["second"]["bits"] == 3
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    assert (config["epochs"], config["compression"]["bits"]) == (2, 3)
    for name in ("q", "p", "r"):
        capsys.readouterr()
        files = ["--json", f"{name}.json", "--plot", f"{name}.png"]
        assert run("train", "against", name, "--out-channels", "2", *files) == 0
        shown = capsys.readouterr().out
        assert "certified" in shown
        assert max(map(len, shown.splitlines())) <= 80
        document = json.loads((tmp_path / f"{name}.json").read_text())
        assert document["holds"]
        assert written_as_published(f"{name}.json")
        assert written_as_published(f"{name}/result.json")
        assert [layer["layer"] for layer in document["layers"]] == ["first", "second", "head"]
        assert all(layer["sqnr"] <= layer["sqnr_upper"] for layer in document["layers"])
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert run("train", "against", "q", "--reference", "latent", "--layer", "second") == 0
    # the saved configuration starts the same run again
    again = ["train", "qat", "--preset", "q/config.json", "--out", "again"]
    assert run(*again) == 0
    first, second = (json.loads((tmp_path / d / "result.json").read_text()) for d in ("q", "again"))
    assert first["accuracy"] == second["accuracy"]
    # nothing is overwritten, and a run of its own can go on
    capsys.readouterr()
    assert run(*again) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert run("train", "qat", *preset, *SHORT, "--bits", "3", "--out", "q", "--resume") == 0


def test_a_false_run_fails(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", "qat", "--preset", "digits-int4", *SHORT, "--out", "q") == 0
    honest = layer_gaps.solve_channels

    def lying(problems, **options):
        return [replace(b, error_lower=b.signal) for b in honest(problems, **options)]

    monkeypatch.setattr(layer_gaps, "solve_channels", lying)
    capsys.readouterr()
    assert run("train", "against", "q", "--json", "a.json") == 1
    assert "FAILED layer 'first'" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text())["holds"] is False
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    # weights of another run under the codes of this one
    assert run("train", "qat", "--preset", "digits-int4", *SHORT, "--seed", "1", "--out", "s") == 0
    (tmp_path / "s" / "model.safetensors").replace(tmp_path / "q" / "model.safetensors")
    capsys.readouterr()
    assert run("train", "against", "q") == 2
    assert "belong to different runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "qat", "--preset", "nothing"], "no preset 'nothing'"),
        (["train", "qat", "--preset", "digits-75"], "use it with `pvqbounds train prune`"),
        (["train", "prune", "--preset", "digits-int4"], "use it with `pvqbounds train qat`"),
        (["train", "qat", "--model", "torchvision:resnet34"], "name one with --preset"),
        (["train", "qat", "--preset", "resnet18-int4"], "needs images: give --data"),
        (["train", "qat", "--set", "bits"], "NAME=VALUE"),
        (["train", "qat", "--set", "speed=2"], "no value 'speed'"),
        (["train", "qat", "--resume", "--out", "none"], "no checkpoint"),
        (["train", "prune", "--sparsity", "2"], "between 0 and 1"),
        (["train", "reconstruct", "--bits", "4", "--sparsity", "0.5"], "either"),
        (["train", "against", "."], "no result of a run"),
        (["train", "against", ".", "--reference", "other"], "dense or latent"),
        (["train", "table", "--seeds", "0"], "at least 1"),
        (["train", "table", "--bits", "1"], "bit width"),
        (["train", "qat", "--device", "tpu"], "auto, cpu, cuda"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_an_interrupt_says_what_is_kept(tmp_path, monkeypatch, capsys):
    from pvqbounds.train import fit

    monkeypatch.chdir(tmp_path)
    step, steps = fit.training_step, []

    def interrupted(*arguments):
        steps.append(0)
        if len(steps) > 7:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(fit, "training_step", interrupted)
    assert run("train", "qat", "--preset", "digits-int4", *SHORT, "--out", "q") == 130
    assert "epoch 1 is kept in q, go on with --resume" in capsys.readouterr().err


def test_a_table_in_miniature(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pvqbounds.train.data.digits_data", lambda: DATA)
    monkeypatch.setattr("pvqbounds.train.runs.digits_data", lambda: DATA)
    arguments = ["train", "table", "--epochs", "1", "--bits", "4", "--bits", "2", "--seeds", "2"]
    assert run(*arguments, "--set", "batch_size=48", "--json", "t.json", "--plot", "t.png") == 0
    shown = capsys.readouterr().out
    assert "quantization" in shown
    assert "accuracy and sparsity in percent" in shown
    assert "75" in shown.split("sparsity", 2)[2].splitlines()[0]
    document = json.loads((tmp_path / "t.json").read_text())
    assert [(c["task"], c["bits"]) for c in document["cells"]] == [
        ("quantization", 4), ("pruning", 4), ("quantization", 2), ("pruning", 2),
    ]  # fmt: skip
    assert all(len(cell["accuracies"]) == 2 for cell in document["cells"])
    assert written_as_published("t.json")


def test_a_table_of_all_sizes_fits_into_80_columns():
    cells = [Cell(task, bits, (0.9712, 0.9833, 1.0)) for task in TASKS for bits in range(2, 17)]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(accuracy_view(AccuracyTable("digits", "digits", 0.99, 360, {}, tuple(cells), 12.0)))
    text = capture.get()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert [word for line in text.splitlines() for word in line.split() if word == "b"] == ["b"] * 15
    assert text.count("97.1") == text.count("100.0") == 30


@pytest.mark.parametrize("scales", [[0.1, 0.2], np.full((2, 2), 0.1), np.full((4, 2), 0.1)])
def test_given_scales_must_fit(scales):
    with pytest.raises(InputError, match="one positive number, or 4"):
        layer_bounds(tiny(), "first", DATA.calibration.__getitems__([0, 1]).inputs, scales=scales)


def test_the_view_names_the_kind_of_each_bound():
    trained = fine_tune(tiny(), DATA, recipe(Quantization(bits=3), epochs=1))
    found = hold(trained, out_channels=1)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(against_view(RunAgainst("run", "tiny", "dense", 0.9, 0.8, tuple(found.values()), 1.0)))
    text = " ".join(console.export_text().split())
    assert text.count("certified") == 3
    assert "only the first 1 output channels" in text
    assert "at the scales that the run ended with" in text


def test_importing_the_package_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, pvqbounds.train, pvqbounds.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert pvq.__version__
