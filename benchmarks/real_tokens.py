"""Grams of padded batches beside those of the real tokens alone: what masks and precision change.

    python -m benchmarks.real_tokens MODEL [--layers PATTERN ...] [--texts 32]

MODEL is a Hugging Face folder with its tokenizer, an encoder's. Its texts are docstrings of Python's standard
library, in batches that are padded and masked. For each layer, the largest difference between two Grams as a
part of the largest entry:

sums        the Gram of the batches, and XᵀX/N of the very rows that the layer was given at real tokens
alone       the Gram of the batches, and that of each text run by itself, without padding: the model computes
            in float32, and rounds another way where a batch has another shape
alone, f64  the same with the model in float64
no mask     the Gram of the batches if padded positions are counted as well
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.transformer import docstrings
from pvqbounds.nn import find_layer, grams_of_layers, load_model
from pvqbounds.nn.calibration import DataOptions
from pvqbounds.nn.layers import select_layers

LAYERS = ("encoder.layer.0.attention.self.query", "encoder.layer.3.output.dense", "encoder.layer.5.*")


def matrices(model: Any, names: list[str], data: Any) -> dict[str, np.ndarray]:
    """The Gram of each layer."""
    return {name: found.grams[0].matrix for name, found in grams_of_layers(model, names, data).items()}


def real_rows(model: Any, names: list[str], data: list[dict[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    """XᵀX/N of what layers are given where the mask is 1, by hooks of one's own."""
    sums: dict[str, Any] = dict.fromkeys(names, 0.0)
    mask, count, handles = None, 0, []

    def keep(name: str) -> Any:
        def hook(_: Any, inputs: Any) -> None:
            x = inputs[0][mask].double().numpy()
            sums[name] = sums[name] + x.T @ x

        return hook

    for name in names:
        handles.append(find_layer(model, name).module.register_forward_pre_hook(keep(name)))
    with torch.no_grad():
        for batch in data:
            mask = batch["attention_mask"] > 0
            count += int(mask.sum())
            model(**batch)
    for handle in handles:
        handle.remove()
    return {name: total / count for name, total in sums.items()}


def apart(one: np.ndarray, other: np.ndarray) -> str:
    return f"{np.abs(one - other).max() / np.abs(other).max():.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS))
    parser.add_argument("--texts", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.txt"
        path.write_text("\n".join(" ".join(text.split()) for text in docstrings()[: options.texts]))
        loaded = load_model(options.model, data=path, options=DataOptions(max_tokens=128))
    model, data = loaded.module, loaded.data
    names = select_layers(model, options.layers)
    alone = [
        {"input_ids": ids[m > 0][None], "attention_mask": m[m > 0][None]}
        for batch in data
        for ids, m in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    tokens, places = (sum(f(b["attention_mask"]) for b in data) for f in (torch.sum, torch.numel))
    kind = next(model.parameters()).dtype
    print(f"{len(alone)} pieces of text, {tokens} tokens in {places} positions; the model in {kind}\n")
    single = [matrices(model, names, data), real_rows(model, names, data), matrices(model, names, alone)]
    unmasked = [{**b, "position_mask": torch.ones_like(b["attention_mask"])} for b in data]
    single.append(matrices(model, names, unmasked))
    model.double()
    double = [matrices(model, names, each) for each in (data, alone)]
    print("| layer | sums | alone | alone, f64 | no mask |\n|---|---|---|---|---|")
    for name in names:
        batches = single[0][name]
        row = [apart(batches, single[1][name]), apart(batches, single[2][name])]
        row += [apart(double[0][name], double[1][name]), apart(single[3][name], batches)]
        print(f"| {name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
