"""The example of a small GPT, with next to no training."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import pvqbounds as pvq  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "gptq_small_gpt.py"


def test_the_files_of_the_example_are_placed_in_their_interval(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("gptq_small_gpt", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "text", lambda: bytes(range(256)) * 3)
    example.main(steps=1, samples=4)

    model, data = example.GPT(), torch.from_numpy(np.load("small-gpt.npy"))
    pvq.nn.models.load_weights(model, Path("small-gpt.safetensors"))
    layer, grams = model.blocks[1].up, pvq.nn.gram_of_layer(model, "blocks.1.up", data)
    weight = layer.weight.detach().double().numpy()
    codes, scale, zero = example.gptq(grams.grams[0], weight)
    dequantized = (codes - zero.repeat(32, 1)) * scale.repeat(32, 1)
    assert 0 <= codes.min() <= codes.max() <= 15
    report = pvq.nn.layer_bounds(
        model,
        "blocks.1.up",
        grams=grams,
        compressed="small-gpt-gptq",
        out_channels=2,
        time_limit=0.5,
        methods=[],
    )
    side = report.sides[0]
    assert side.compressed.values == "int4:g32:asym"
    change = (dequantized - weight)[:2]
    error = ((change @ grams.grams[0].matrix) * change).sum()
    assert side.method_error("compressed") == pytest.approx(error, rel=1e-9)
    assert side.error_lower <= error
