"""Weights of a model from files: state dictionaries, whole or in parts. Files are never unpickled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pvqbounds.errors import InputError, shown
from pvqbounds.nn.stored import parts_of
from pvqbounds.storage.tensor_files import (
    INDICES,
    TORCH_SUFFIXES,
    read_index,
    read_safetensors,
    read_torch,
    state_of,
)

__all__ = ["check_file", "line", "load_weights", "read_state"]


def load_weights(module: nn.Module, path: Path) -> None:
    """Put a state dictionary from a file, or from a folder of parts, into `module`.

    Of tensors that the model has under several names (tied weights) the file may hold one or all.
    """
    state = read_state(path)
    own = module.state_dict(keep_vars=True)
    _check_plain(state, own, path)
    tied = _tied(own)
    for names in tied.values():
        held = [name for name in names if name in state]
        for name in held[1:]:
            if not torch.equal(state[held[0]], state[name]):
                raise InputError(
                    f"'{held[0]}' and '{name}' are one tensor of the model, but {path} holds two that differ."
                )
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path} does not hold the weights of this model ({line(error)}).") from error
    missing = [name for name in missing if not any(other in state for other in tied.get(name, ()))]
    for names, what in ((missing, "lacks"), (unexpected, "has, unlike the model,")):
        if names:
            first = sorted(names)[0]
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            hint = _prefix_hint(state, own)
            raise InputError(f"{path} does not fit the model: it {what} '{first}'{others}{hint}.")


def _check_plain(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """Find out whether a file holds weights as they are, not quantized ones or an adapter."""
    parts = parts_of({name: str(tensor.dtype).removeprefix("torch.") for name, tensor in state.items()})
    for name, tensor in state.items():
        if name not in own and name in parts:
            reason = parts[name].reason
            advice = "" if reason.endswith(" first") else "; dequantize the checkpoint first"
            raise InputError(f"{path} does not hold plain weights: '{name}' {reason}{advice}.")
        if name in own and own[name].is_floating_point() and not tensor.is_floating_point():
            raise InputError(
                f"'{name}' in {path} holds {str(tensor.dtype).removeprefix('torch.')} where the model has "
                "floating-point weights; dequantize the checkpoint first."
            )


def _tied(own: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """For each name of the model's tensors that are there several times, all names of that tensor."""
    together: dict[object, list[str]] = {}
    for name, tensor in own.items():
        place: object = id(tensor)
        if isinstance(tensor, Tensor) and not tensor.is_meta and tensor.numel():
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        together.setdefault(place, []).append(name)
    return {name: names for names in together.values() if len(names) > 1 for name in names}


def _prefix_hint(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Name the prefix by which most names of file and model differ."""
    for longer, shorter, words in (
        (state, own, "its names begin with '{}', which the model's do not: save the module inside"),
        (own, state, "the model's names begin with '{}', which the file's do not: take the module inside"),
    ):
        prefixes = Counter(
            name[: -len(rest)]
            for name in longer
            for rest in (name[i + 1 :] for i, letter in enumerate(name) if letter == ".")
            if rest in shorter and name not in shorter
        )
        for prefix, count in prefixes.most_common(1):
            if 2 * count >= len(shorter):
                return f"; {words.format(prefix)}"
    return ""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, of one of PyTorch's own, or of a folder of either.

    Raises
    ------
    InputError
        If there is no such file, or it is damaged or holds more than tensors.
    """
    if path.is_dir():
        return _read_folder(path)
    check_file(path, {".safetensors", *TORCH_SUFFIXES}, "Weights")
    return read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_folder(folder: Path) -> dict[str, Tensor]:
    """All parts that an index names; without one the only file of weights."""
    for name in INDICES:
        if (folder / name).is_file():
            return _read_parts(folder / name)
    for suffixes in ((".safetensors",), TORCH_SUFFIXES):
        files = sorted(file for file in folder.iterdir() if file.suffix in suffixes)
        if len(files) > 1:
            raise InputError(
                f"The folder {folder} holds {len(files)} files of weights and no index of them; give one."
            )
        if files:
            return read_state(files[0])
    raise InputError(
        f"The folder {folder} holds no weights: no .safetensors file, and none of PyTorch's own."
    )


def _read_parts(index: Path) -> dict[str, Tensor]:
    places = read_index(index)
    state: dict[str, Tensor] = {}
    for part in dict.fromkeys(places.values()):
        check_file(index.parent / part, {".safetensors", *TORCH_SUFFIXES}, "Weights")
        held = read_state(index.parent / part)
        state.update({name: tensor for name, tensor in held.items() if places.get(name) == part})
    lacking = sorted(places.keys() - state.keys())
    if lacking:
        raise InputError(f"{index} names {shown(lacking[0])} in {places[lacking[0]]}, which lacks it.")
    return state


def _read_torch(path: Path) -> dict[str, Tensor]:
    return state_of(read_torch(path), path)


def check_file(path: Path, suffixes: set[str], what: str) -> None:
    """Refuse, in words, a file that is not there or has none of these endings."""
    if path.suffix not in suffixes:
        raise InputError(f"{what} are read from {' or '.join(sorted(suffixes))} files, not from {path}.")
    if not path.is_file():
        raise InputError(f"There is no file {path}.")


def line(error: BaseException) -> str:
    """Put the error's text on one line, without a final stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
