"""A small GPT, trained in seconds on the text at hand, its GPTQ weights, and bounds for all of its layers.

    python examples/gptq_small_gpt.py
    pvqbounds layer --model examples.gptq_small_gpt:GPT --weights small-gpt.safetensors --data small-gpt.npy \
        --layer '*' --compressed small-gpt-gptq --methods rtn \
        --method relax --relaxation splits --time-limit 0.1

The text is the docstrings of Python's standard library, byte by byte. The weights are stored as GPTQ's own
tools store them (version 2): 4 bits, groups of 32, with zero points.
"""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

import pvqbounds as pvq

WIDTH, HEADS, LENGTH = 64, 4, 64
BITS, GROUP = 4, 32


class Block(nn.Module):
    """Attention and a network of two layers, a LayerNorm before each."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (samples, length, width)."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(heads.transpose(1, 2).flatten(-2))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Next byte from the bytes before."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(256, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the byte behind each, shape (samples, length, 256)."""
        x = self.bytes(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def text() -> bytes:
    """Docstrings of the standard library."""
    found = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found.append(ast.get_docstring(node) or "")
    return "\n".join(filter(None, found)).encode()


def batch(corpus: torch.Tensor, samples: int, length: int) -> torch.Tensor:
    """Pieces from anywhere."""
    starts = torch.randint(len(corpus) - length, (samples,))
    return torch.stack([corpus[start : start + length] for start in starts]).long()


def train(corpus: torch.Tensor, steps: int) -> GPT:
    """A few hundred steps of Adam."""
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        pieces = batch(corpus, 32, LENGTH + 1)
        loss = functional.cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{steps} steps, loss {loss.item():.2f}")
    return model.eval()


def gptq(gram: pvq.Gram, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (channels, n), scales and zero points (channels, groups) of a layer."""
    groups = weight.reshape(len(weight), -1, GROUP)
    low, high = groups.min(-1).clip(max=0.0), groups.max(-1).clip(min=0.0)
    scale = ((high - low) / (2**BITS - 1)).astype(np.float16).astype(np.float64)
    zero = np.rint(-low / scale).clip(0, 2**BITS - 1).astype(np.int64)
    problems = [
        pvq.IntegerLeastSquares(gram, w, scale=s, qmin=-z, qmax=2**BITS - 1 - z)
        for w, s, z in zip(weight, scale.repeat(GROUP, 1), zero.repeat(GROUP, 1), strict=True)
    ]
    codes = np.stack(pvq.methods.get("gptq").rounded(problems))
    return codes + zero.repeat(GROUP, 1), scale, zero


def packed(codes: np.ndarray) -> torch.Tensor:
    """Codes along the first axis, eight in each 32 bits."""
    words = codes.reshape(-1, 32 // BITS, codes.shape[1]).astype(np.uint32)
    shifts = (BITS * np.arange(32 // BITS, dtype=np.uint32))[:, None]
    return torch.from_numpy(np.bitwise_or.reduce(words << shifts, axis=1).view(np.int32))


def quantize(model: GPT, data: torch.Tensor, folder: Path) -> None:
    """Every linear layer by GPTQ, written as its own tools write it."""
    tensors = {}
    names = pvq.nn.layer_names(model)
    for name, found in pvq.nn.grams_of_layers(model, names, data).items():
        weight = model.get_submodule(name).weight.detach().double().numpy()
        codes, scale, zero = gptq(found.grams[0], weight)
        tensors[f"{name}.qweight"] = packed(codes.T)
        tensors[f"{name}.qzeros"] = packed(zero).T  # along the outputs
        tensors[f"{name}.scales"] = torch.from_numpy(scale.T.astype(np.float16))
        tensors[f"{name}.g_idx"] = torch.arange(weight.shape[1], dtype=torch.int32) // GROUP
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    config = {"quant_method": "gptq", "checkpoint_format": "gptq_v2", "bits": BITS, "group_size": GROUP}
    (folder / "quantize_config.json").write_text(json.dumps(config | {"sym": False, "desc_act": False}))


def main(steps: int = 400, samples: int = 128) -> None:
    """Train, save the weights and the calibration data, quantize."""
    torch.manual_seed(0)
    corpus = torch.frombuffer(bytearray(text()), dtype=torch.uint8)
    model = train(corpus, steps)
    data = batch(corpus, samples, LENGTH)
    save_file(model.state_dict(), "small-gpt.safetensors")
    np.save("small-gpt.npy", data.numpy())
    quantize(model, data, Path("small-gpt-gptq"))


if __name__ == "__main__":
    main()
