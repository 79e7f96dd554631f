"""The part of ``pvqbounds export`` that writes the best weights found for a network, as a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pvqbounds.commands.console import progress_bar
from pvqbounds.commands.inputs import data_options
from pvqbounds.errors import InputError, shown

if TYPE_CHECKING:
    from pvqbounds.network.evaluation import Evaluation
    from pvqbounds.network.export import Choice, Exported
    from pvqbounds.results.network import NetworkReport

__all__ = ["Weights", "export_weights_of", "tell_export"]

MOST_NAMED = 5
"""Layers that a sentence names at most."""


@dataclass(frozen=True)
class Weights:
    """Which weights are written, and on what data the model is looked at: the options of the command."""

    model: str | None
    weights: Path | None
    format: str | None
    bits_per_weight: float | None
    leave_out: tuple[str, ...]
    correct_bias: Path | None
    data: Path | None
    tokenizer: Path | None
    max_tokens: int
    samples: int | None


def export_weights_of(store: Path, file: Path, form: str, asked: Weights, report: Path | None) -> None:
    """Write the best weights found, and say what the model loses by them on data."""
    from pvqbounds.network.evaluation import evaluated
    from pvqbounds.network.export import check_export_path, compressed_model, export_weights
    from pvqbounds.nn.calibration import read_data
    from pvqbounds.storage.network_store import Store
    from pvqbounds.storage.text import write_json

    layout = check_export_path(file, form)
    with progress_bar("reading the store") as update:
        network = Store.open(store).read().without(asked.leave_out)
        choice = _choice(network, asked.format, asked.bits_per_weight)
        update(0, 0, "loading")
        from pvqbounds import nn

        reading = data_options(asked.tokenizer, asked.max_tokens, asked.samples, None, 0)
        called = asked.model or network.model
        loaded = nn.load_model(called, asked.weights, asked.data, options=reading, needs_data=False)
        calibration = None
        if asked.correct_bias is not None:
            calibration = read_data(asked.correct_bias, loaded.module, reading)
        update(0, 0, "writing")
        written = export_weights(network, loaded, file, layout, choice, calibration)
        seen = None
        tests = _tests(called, asked.data, loaded)
        if tests is not None:
            update(0, 0, "evaluating")
            best = compressed_model(network, loaded, choice, calibration=calibration)
            seen = evaluated(loaded.module, tests), evaluated(best, tests, loaded.module)
    if report is not None:
        write_json(report, _document(written, seen))
    tell_export(network, written)
    if calibration is not None:
        rest = [name for name in written.formats if name not in written.corrected]
        print(
            f"The mean error of {len(written.corrected)} layers was taken off their biases"
            + (f"; of these it was not, for want of one: {_few(rest)}." if rest else ".")
        )
    if seen is not None:
        print(_evaluation_text(*seen))


def _choice(network: NetworkReport, form: str | None, bits_per_weight: float | None) -> Choice:
    """The format of each layer."""
    from pvqbounds.network.allocation import allocate, budget_of, choices_of

    if form is not None and bits_per_weight is not None:
        raise InputError("Give either --format or --bits-per-weight, not both.")
    if bits_per_weight is None:
        return form
    layers = choices_of(network)
    return allocate(layers, budget_of(layers, bits_per_weight)).choice


def _tests(called: str, data: Path | None, loaded: Any) -> Any:
    """Data to look at the model on, with labels where there are some; None without any."""
    from pvqbounds.nn.calibration import with_labels

    if data is not None:
        return with_labels(loaded.data, data, loaded.module)
    if called == "digits":
        from pvqbounds.train.data import digits_data

        test = digits_data().test
        return [test.__getitems__(range(len(test)))[:2]]
    return None


def tell_export(network: NetworkReport, written: Exported) -> None:
    """Print which layers have which weights now."""
    others = [entry.name for entry in network.layers if entry.name not in written.formats]
    if others:
        print(f"As the model has them, for want of a result in the format: {_few(others)}.")
    if written.left_out:
        print(f"Left out, and as the model has them: {_few(written.left_out)}.")
    kinds = list(written.formats.values())
    formats = ", ".join(f"{kinds.count(own)} in {own}" for own in dict.fromkeys(kinds))
    print(f"{written.path}: the best weights found of {len(kinds)} layers, {formats}.")
    for reason in dict.fromkeys(written.dense.values()):
        names = [name for name, why in written.dense.items() if why == reason]
        print(f"Dense: {', '.join(names)} ({reason}).")


def _few(names: Sequence[str]) -> str:
    """The first names of a list."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(shown, names[:MOST_NAMED])) + more


def _evaluation_text(before: Evaluation, after: Evaluation) -> str:
    """What a model was on data, and what it is."""
    parts = []
    if before.accuracy is not None and after.accuracy is not None:
        parts.append(f"accuracy {100 * before.accuracy:.2f} % before and {100 * after.accuracy:.2f} % after")
    if before.loss is not None and after.loss is not None:
        parts.append(f"loss {before.loss:.4f} before and {after.loss:.4f} after")
    if after.agreement is not None:
        parts.append(f"the same first class as the dense model on {100 * after.agreement:.2f} %")
    if after.output_error is not None:
        parts.append(f"squared difference of the outputs {after.output_error:.3g} of theirs")
    return f"On {after.samples} samples: {', '.join(parts)}."


def _document(written: Exported, seen: tuple[Evaluation, Evaluation] | None) -> dict[str, Any]:
    return {
        "schema": "pvqbounds.export/1",
        "path": str(written.path),
        "formats": dict(written.formats),
        "dense": dict(written.dense),
        "left_out": list(written.left_out),
        "bias_corrected": list(written.corrected),
        "before": None if seen is None else asdict(seen[0]),
        "after": None if seen is None else asdict(seen[1]),
    }
