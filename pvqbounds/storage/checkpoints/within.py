"""Layers whose weights are a part of a tensor, or stand in several: experts, and packed projections.

| layer of the model | where a file may have it |
|---|---|
| ``experts.3.down_proj`` | ``experts.3.down_proj.weight`` and its like; the fourth part of ``experts.down_proj``, with what is quantized beside it (``_blocks`` and ``_scales`` of gpt-oss, ``_scale_inv`` of float8); ``ffn_down_exps`` of GGUF |
| ``mlp.experts.3.down_proj`` | ``block_sparse_moe.experts.3.w2``, as Mixtral's files have it |
| ``experts.3.gate_up_proj`` | the same; ``gate_proj`` above ``up_proj`` where a file has them apart, or by turns with it (gpt-oss) |
| ``attn.k_proj`` | the second third of ``attn.in_proj_weight``, as torch's own attention has it |
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pvqbounds.errors import InputError, shown
from pvqbounds.storage.checkpoints.files import Checkpoint, StoredTensor

__all__ = ["Expert", "Found", "expert_of", "part_of_attention", "parts_of_experts", "same_layer"]

EXPERT = re.compile(r"(.+)\.(\d{1,6})\.(gate_up_proj|gate_proj|up_proj|down_proj)")
PROJECTIONS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
"""What Mixtral's files call them."""
PLACES = ("mlp.experts", "block_sparse_moe.experts")

BESIDE = {
    "": "weight",
    "_blocks": "weight_blocks",
    "_scales": "weight_scales",
    "_scale_inv": "weight_scale_inv",
    "_scale": "weight_scale",
    "_zero_point": "weight_zero_point",
    "_input_scale": "input_scale",
    "_bias": "bias",
    ".weight": "weight",
    ".bias": "bias",
}
"""What follows the name of a tensor of all experts, as it is called beside the weight of one.

Whatever else stands there keeps its own name, under which no format knows it: it is refused, not dropped."""

WEIGHTS = ("weight", "weight_blocks")
"""Of them those that hold the weights."""

ATTENTION = re.compile(r"(.+)\.([qkv])_proj")


@dataclass(frozen=True)
class Found:
    """The tensors of one layer, by what follows its name."""

    name: str
    """What to call it."""
    tensors: Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Expert:
    """One projection of one expert, by the name of the layer."""

    parent: str
    number: int
    projection: str

    def named(self, projection: str) -> Expert:
        """Another projection of this expert."""
        return Expert(self.parent, self.number, projection)

    @property
    def halves(self) -> tuple[Expert, Expert] | None:
        """The two projections that this one may stand in as."""
        return (self.named("gate_proj"), self.named("up_proj")) if self.projection == "gate_up_proj" else None

    def spellings(self) -> Iterator[tuple[str, str]]:
        """What files call the experts together and the projection, the model's own words first."""
        short = PROJECTIONS.get(self.projection)
        for parent in self._parents():
            for word in (self.projection, short):
                if word is not None:
                    yield parent, word

    def _parents(self) -> Iterator[str]:
        yield self.parent
        for place, other in (PLACES, PLACES[::-1]):
            if same_layer(self.parent, place):
                yield self.parent.removesuffix(place) + other


def expert_of(layer: str) -> Expert | None:
    """The expert that a layer's name says; None where it says none."""
    found = EXPERT.fullmatch(layer)
    return None if found is None else Expert(found[1], int(found[2]), found[3])


def same_layer(one: str, other: str) -> bool:
    """Whether two names are those of one layer, behind a prefix of the one or the other."""
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")


def parts_of_experts(checkpoint: Checkpoint, expert: Expert) -> Found | None:
    """The tensors of one expert out of those that hold all of them.

    Raises
    ------
    InputError
        If two places may be meant, there are fewer experts, or what lies beside the weights is not of as
        many.
    """
    families = _families(checkpoint, expert)
    held = {stem: parts for stem, parts in families.items() if not parts.keys().isdisjoint(WEIGHTS)}
    if not held:
        return None
    if len(held) > 1:
        few = " or ".join(map(shown, list(held)[:3]))
        raise InputError(f"The experts may be {few} in {checkpoint.path}; nothing tells which.")
    ((stem, parts),) = held.items()
    count = next(parts[rest].shape[0] for rest in WEIGHTS if rest in parts)
    unlike = [rest for rest, own in parts.items() if own.shape and own.shape[0] != count]
    if unlike:
        raise InputError(
            f"{shown(stem)} in {checkpoint.path} has {count} experts, but '{unlike[0]}' beside it is of "
            f"shape {parts[unlike[0]].shape}."
        )
    if expert.number >= count:
        raise InputError(
            f"{shown(stem)} in {checkpoint.path} has {count} experts, and none of number {expert.number}."
        )
    own = {rest: tensor.at(expert.number) if tensor.shape else tensor for rest, tensor in parts.items()}
    return Found(f"{stem}[{expert.number}]", own)


def _families(checkpoint: Checkpoint, expert: Expert) -> dict[str, dict[str, StoredTensor]]:
    """Tensors that may be of all experts, by what stands before the rest of their names, and by that.

    Raises
    ------
    InputError
        If two of them mean one thing.
    """
    families: dict[str, dict[str, StoredTensor]] = {}
    names: dict[tuple[str, str], str] = {}
    for parent, word in expert.spellings():
        own = f"{parent}.{word}"
        renamed = checkpoint.renamed(own) if checkpoint.renamed is not None else None
        for name, tensor in checkpoint.tensors.items():
            stem, rest = _split(name, renamed or own)
            if rest is None or (rest in WEIGHTS and not tensor.shape):
                continue
            if (before := names.setdefault((stem, rest), name)) != name:
                raise InputError(
                    f"{checkpoint.path} holds both {shown(before)} and {shown(name)}; nothing tells which of "
                    "the two is meant."
                )
            families.setdefault(stem, {})[rest] = tensor
    return families


def _split(name: str, own: str) -> tuple[str, str | None]:
    """A tensor's name as that of the experts and what follows it, in the words of a layer's tensors."""
    word = own.rpartition(".")[2]
    start = f".{name}".rfind(f".{word}")
    stem, rest = name[: start + len(word)], name[start + len(word) :]
    if start < 0 or (rest and rest[0] not in "._") or not same_layer(stem, own):
        return name, None
    return stem, BESIDE.get(rest, rest)


def part_of_attention(checkpoint: Checkpoint, layer: str) -> Found | None:
    """The rows of one projection out of torch's ``in_proj_weight``."""
    found = ATTENTION.fullmatch(layer)
    if found is None:
        return None
    own = f"{found[1]}.in_proj_weight"
    names = [name for name in checkpoint.tensors if same_layer(name, own)]
    if len(names) != 1:
        return None
    tensor, third = checkpoint.tensors[names[0]], "qkv".index(found[2])
    if len(tensor.shape) != 2 or tensor.shape[0] % 3:
        return None
    size = tensor.shape[0] // 3
    rows = tensor.rows(third * size, (third + 1) * size)
    beside = {  # no format knows them: they are refused, not dropped
        rest: other
        for name, other in checkpoint.tensors.items()
        if (rest := name.removeprefix(names[0])) != name and rest[:1] in ("_", ".")
    }
    return Found(f"{names[0]}[{third * size}:{(third + 1) * size}]", {"weight": rows, **beside})
