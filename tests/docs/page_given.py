"""What pages presuppose: a person's own model, data and files, small ones."""

from __future__ import annotations

from collections.abc import Callable
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
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(60))]
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    folder = stage.folder / "FOLDER"
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    rng = np.random.default_rng(0)
    for name in ("text.txt", "other.txt"):
        lines = [" ".join(f"w{i}" for i in rng.integers(0, 60, 20)) for _ in range(30)]
        (stage.folder / name).write_text("\n".join(lines))


def problem(stage: Stage) -> None:
    """A Gram and weights in `problem.npz`, which say nothing of a budget."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((60, 10))
    np.savez(stage.folder / "problem.npz", gram=X.T @ X / 60, weight=rng.standard_normal(10))


GIVEN: dict[str, Callable[[Stage], None]] = {
    "my_net.py": my_net,
    "model and data": model_and_data,
    "quantized.safetensors": quantized,
    "problem.npz": problem,
    "a Hugging Face folder": hugging_face_folder,
}
