"""Grams in files, so that a model runs once or never: this package's own, and those of other tools.

| file | holds | taken as |
|---|---|---|
| ``.npz`` of `save_grams` | ``LAYER/gram``, ``LAYER/positions``, ``LAYER/notes``, ``LAYER/weights`` | XᵀX/N |
| ``.npz``, ``.safetensors`` | ``gram``, or one array of any name | XᵀX/N |
| the same | ``xtx`` beside ``positions`` | XᵀX |
| the same | ``hessian`` or ``H`` | 2XᵀX/N, as GPTQ has it |
| ``.pt`` of QuIP# | ``flatH``, ``mu``, ``n``, ``ct`` | the lower triangle of XᵀX/N − μμᵀ, row by row |

Names may begin with that of the layer, before a slash or a dot; the arrays of one layer have shape (n, n),
or (groups, n, n).
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pvqbounds.errors import InputError, shown
from pvqbounds.nn.grams import LayerGrams
from pvqbounds.nn.layers import Layer
from pvqbounds.nn.weights import check_file
from pvqbounds.problems import Gram
from pvqbounds.storage.archive import parse_arrays, read_bytes, replacing, write_arrays
from pvqbounds.storage.tensor_files import read_safetensors, read_torch, state_of

__all__ = ["GivenGrams", "given_grams", "read_grams", "save_grams"]

GivenGrams = LayerGrams | Gram | ArrayLike | Mapping[str, LayerGrams] | str | Path
"""A Gram, or one for each group; those of several layers by their names; or a file of them."""

MEANINGS = ("gram", "xtx", "hessian", "H")
COUNTS = ("n", "ct", "positions")
"""Numbers beside them, which files of PyTorch hold by themselves."""
MOST = 2**62
ENDINGS = tuple(f".{word}" for word in MEANINGS)
UNKNOWN = (
    "Of {} in {} it is taken that it is the Gram of this layer, XᵀX/N: errors are in its units, and decibels "
    "are not."
)
OTHER_WEIGHTS = (
    "When the Gram in {} was made the layer had other weights: is it of the same model? Bounds are about "
    "these weights on that Gram."
)
NO_MEAN = "There is no mu in {}: its flatH is taken as XᵀX/N, from which no mean was taken."
FROM_FILE = "The Gram is that of a file, and how many positions are behind it is not known."


def save_grams(
    grams: Mapping[str, LayerGrams], path: str | Path, layers: Mapping[str, Layer] | None = None
) -> None:
    """Write the Grams of layers, by their names, to an ``.npz`` file.

    Parameters
    ----------
    layers
        Layers that they are of: whoever reads the file is told if theirs has other weights.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, found in grams.items():
        arrays[f"{name}/gram"] = np.stack([gram.matrix for gram in found.grams])
        arrays[f"{name}/positions"] = np.array(found.positions)
        arrays[f"{name}/notes"] = np.frombuffer("\n".join(found.notes).encode(), dtype=np.uint8)
        if layers is not None:
            arrays[f"{name}/weights"] = _digest(layers[name])
    with replacing(Path(path)) as temporary:
        write_arrays(temporary, arrays)


def given_grams(given: GivenGrams, layer: Layer) -> LayerGrams:
    """The Grams of a layer from whatever holds them.

    Raises
    ------
    InputError
        If they do not fit the layer, or are no Grams.
    """
    if isinstance(given, str | Path):
        return read_grams(Path(given), layer)
    if isinstance(given, Mapping):
        if layer.name not in given:
            raise InputError(f"The Grams have none of layer '{layer.name}'; they have {_listed(given)}.")
        return given_grams(given[layer.name], layer)
    if isinstance(given, Gram):
        given = LayerGrams((given,), 0)
    if not isinstance(given, LayerGrams):
        given = _of_matrices(_given_array(given), 0, ())
    sizes = [gram.n for gram in given.grams]
    if sizes != [layer.inputs] * layer.groups:
        wanted = f"{layer.groups} of {layer.inputs}" if layer.groups > 1 else f"{layer.inputs}"
        raise InputError(
            f"Layer '{layer.name}' has {wanted} inputs, but {len(sizes)} Gram of {sizes[0]} is given for it."
        )
    return given


def _given_array(given: Any) -> NDArray[Any]:
    if isinstance(given, Tensor):
        return _as_array(given.detach().cpu())
    try:
        return np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise InputError("A Gram has shape (n, n), or (groups, n, n), and rows of one length.") from error


def read_grams(path: Path, layer: Layer) -> LayerGrams:
    """Read the Grams of a layer from a file.

    Raises
    ------
    InputError
        If the file cannot be read, has none for the layer, or holds no Grams.
    """
    check_file(path, {".npz", ".safetensors", ".pt"}, "Grams")
    arrays = _arrays(path)
    if "flatH" in arrays:
        return given_grams(_of_quip(arrays, path), layer)
    own = {
        name[len(layer.name) + 1 :]: array
        for name, array in arrays.items()
        if name.startswith((f"{layer.name}/", f"{layer.name}."))
    }
    if layer.name in arrays:
        own.setdefault("", arrays[layer.name])
    held = own or arrays
    words = [word for word in MEANINGS if word in held]
    if len(words) > 1:
        raise InputError(
            f"{path} holds {' and '.join(map(shown, words))} of layer '{layer.name}'; leave one of them, as "
            "nothing tells which is meant."
        )
    word = words[0] if words else None
    if word is None:
        matrices = [name for name, array in held.items() if array.ndim >= 2]
        others = [name for name in matrices if name.replace("/", ".").endswith(ENDINGS)]
        if len(matrices) != 1 or others:  # of other layers
            raise InputError(
                f"{path} does not tell the Gram of layer '{layer.name}': it holds {_listed(arrays)}; call it "
                f"'{layer.name}/gram', or leave out the others."
            )
        notes = (UNKNOWN.format(shown(matrices[0]) if matrices[0] else "the array", path.name), FROM_FILE)
        return given_grams(_of_matrices(held[matrices[0]], 0, notes), layer)
    positions = _count(held, "positions", path)
    matrix = held[word]
    if word == "xtx":
        if positions < 1:
            raise InputError(f"{path} holds XᵀX of layer '{layer.name}'; put its positions, N, beside it.")
        matrix = matrix / positions
    elif word in ("hessian", "H"):
        matrix = matrix / 2
    told = _notes(held)
    made = held.get("weights")
    if made is not None and made.dtype == np.uint8 and not np.array_equal(made, _digest(layer)):
        told += (OTHER_WEIGHTS.format(path.name),)
    return given_grams(_of_matrices(matrix, positions, told or (() if positions else (FROM_FILE,))), layer)


def _digest(layer: Layer) -> NDArray[np.uint8]:
    """What tells the weights of a layer from others."""
    return np.frombuffer(blake2b(layer.weight.tobytes(), digest_size=16).digest(), dtype=np.uint8)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".npz":
        return parse_arrays(read_bytes(path), path)
    if path.suffix == ".safetensors":
        tensors = read_safetensors(path)
    else:
        content = read_torch(path)
        tensors = state_of({"": content} if isinstance(content, Tensor) else content, path)
        tensors |= {name: torch.tensor(content[name]) for name in COUNTS if _is_number(content, name)}
    return {name: _as_array(value) for name, value in tensors.items()}


def _is_number(content: Any, name: str) -> bool:
    value = content.get(name) if isinstance(content, Mapping) else None
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _as_array(value: Any) -> NDArray[Any]:
    tensor = torch.as_tensor(value)
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()  # NumPy has no bfloat16
    array: NDArray[Any] = tensor.numpy()
    return array


def _of_quip(arrays: Mapping[str, NDArray[Any]], path: Path) -> LayerGrams:
    """XᵀX/N of what QuIP# saves: a triangle of the covariance, and the mean."""
    flat = _real(arrays["flatH"], "flatH", path)
    n = _count(arrays, "n", path) if "n" in arrays else int(np.sqrt(2.0 * len(flat)))
    if n < 1 or n * (n + 1) // 2 != len(flat):
        raise InputError(f"{path} holds a flatH of {len(flat)} numbers, which is no triangle of n = {n}.")
    matrix = np.zeros((n, n))
    matrix[np.tril_indices(n)] = flat
    matrix = matrix + np.tril(matrix, -1).T
    if "mu" in arrays:
        mean = _real(arrays["mu"], "mu", path)
        if len(mean) != n:
            raise InputError(f"{path} holds a mu of {len(mean)} numbers, where n is {n}.")
        matrix += np.outer(mean, mean)
    if arrays["flatH"].dtype != np.float64:
        matrix = matrix.astype(np.float32)  # no better than what it was made from
    positions = _count(arrays, "ct", path)
    notes = [NO_MEAN.format(path.name)] * ("mu" not in arrays) + [FROM_FILE] * (positions == 0)
    return _of_matrices(matrix, positions, tuple(notes))


def _real(array: NDArray[Any], name: str, path: Path) -> NDArray[np.float64]:
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {name} of type {array.dtype}, where real numbers are wanted.")
    return np.ravel(array).astype(np.float64)


def _count(held: Mapping[str, NDArray[Any]], name: str, path: Path) -> int:
    """A whole number of a file; 0 where it has none."""
    if name not in held:
        return 0
    numbers = held[name]
    if numbers.size != 1 or numbers.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {numbers.size} entries under '{name}', where one number is wanted.")
    number = numbers.ravel()[0]
    if not (0 <= number <= MOST and number == np.rint(number)):
        raise InputError(f"{path} holds {number} under '{name}', where a number of things is wanted.")
    return int(number)


def _notes(held: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """What `save_grams` put beside a Gram, a sentence a line; nothing from a file of another kind."""
    letters = held.get("notes")
    if letters is None or letters.dtype != np.uint8:
        return ()
    lines = letters.tobytes().decode("utf-8", "replace").split("\n")
    return tuple(line for line in lines if line and line.isprintable())


def _of_matrices(array: NDArray[Any], positions: int, notes: tuple[str, ...]) -> LayerGrams:
    if array.ndim not in (2, 3):
        raise InputError(f"A Gram has shape (n, n), or (groups, n, n), not {shown(array.shape)}.")
    grams = [array] if array.ndim == 2 else list(array)
    return LayerGrams(tuple(map(Gram, grams)), positions, notes)


def _listed(names: Mapping[str, Any]) -> str:
    few = ", ".join(sorted(names)[:4])
    return few + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "nothing"
