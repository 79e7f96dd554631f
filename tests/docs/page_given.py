"""What pages presuppose: a person's own model, data and files, small ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from page_stage import Stage

MY_NET = """\
from collections import OrderedDict

import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(fc1=nn.Linear(16, 12), act=nn.ReLU(), fc2=nn.Linear(12, 4)))
"""


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(60)))
"""Of the tokenizers."""


def my_net(stage: Stage) -> None:
    """A module of a factory in `my_net.py`, with the data that it is called with."""
    (stage.folder / "my_net.py").write_text(MY_NET)
    rng = np.random.default_rng(0)
    for name, rows in (("inputs", 200), ("other", 100)):
        data = np.maximum(rng.standard_normal((rows, 16)) @ rng.standard_normal((16, 16)), 0.0)
        np.save(stage.folder / f"{name}.npy", data.astype(np.float32))


def model_and_data(stage: Stage) -> None:
    """The names `model` and `data`: a linear layer "0" of eight inputs."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    stage.names["model"] = nn.Sequential(nn.Linear(8, 3).double())
    stage.names["data"] = torch.randn(50, 8, dtype=torch.float64)


def quantized(stage: Stage) -> None:
    """Weights of `my_net` on a grid of four bits, dequantized, as a plain checkpoint."""
    import torch
    from safetensors.torch import save_file

    names: dict[str, object] = {}
    exec(MY_NET, names)
    state = names["build"]().state_dict()  # type: ignore[operator]
    for name in ("fc1.weight", "fc2.weight"):
        step = 2.0**-4
        state[name] = torch.clip(torch.round(state[name] / step), -8, 7) * step
    save_file(state, stage.folder / "quantized.safetensors")


def hugging_face_folder(stage: Stage) -> None:
    """A small BERT of random weights in FOLDER, with a tokenizer, and texts."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    folder = stage.folder / "FOLDER"
    transformers.BertModel(config).save_pretrained(folder)
    _write_tokenizer(folder)
    _write_texts(stage, "text.txt", "other.txt")


def dense_and_quantized(stage: Stage) -> None:
    """A small Llama in DENSE_FOLDER, its weights on a grid of four bits in QUANTIZED_FOLDER, and a text."""
    import torch
    import transformers

    names = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(vocab_size=len(WORDS), num_hidden_layers=1, **names)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    folder = stage.folder / "DENSE_FOLDER"
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                step = layer.weight.abs().amax() / 7.0
                layer.weight.copy_(torch.round(layer.weight / step) * step)
    model.save_pretrained(stage.folder / "QUANTIZED_FOLDER")
    _write_texts(stage, "text.txt")


def _write_tokenizer(folder: Path) -> None:
    """One token for each word."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    numbers = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def _write_texts(stage: Stage, *names: str) -> None:
    """Lines of twenty words each."""
    rng = np.random.default_rng(0)
    for name in names:
        lines = [" ".join(f"w{i}" for i in rng.integers(0, 60, 20)) for _ in range(30)]
        (stage.folder / name).write_text("\n".join(lines))


def problem(stage: Stage) -> None:
    """A Gram and weights in `problem.npz`, which say nothing of a budget."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((60, 10))
    np.savez(stage.folder / "problem.npz", gram=X.T @ X / 60, weight=rng.standard_normal(10))


def matlab_data(stage: Stage) -> None:
    """A folder of what the paper's code hands to its MATLAB script."""
    from scipy.io import savemat

    rng, folder = np.random.default_rng(3), stage.folder / "matlab_data"
    folder.mkdir()
    for number in range(2):
        X, weight = rng.standard_normal((40, 8)), rng.standard_normal(8)
        form = 2.0 * X.T @ X
        parts = {"P": form, "q": -form @ weight, "x0": weight, "r": 0.5 * weight @ form @ weight}
        savemat(folder / f"0000_{number:04}.mat", parts)


GIVEN: dict[str, Callable[[Stage], None]] = {
    "my_net.py": my_net,
    "model and data": model_and_data,
    "quantized.safetensors": quantized,
    "problem.npz": problem,
    "matlab_data": matlab_data,
    "a Hugging Face folder": hugging_face_folder,
    "dense and quantized folders": dense_and_quantized,
}
