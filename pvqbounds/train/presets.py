"""Recipes: every number of a fine-tuning run, by name, each of them replaceable.

The recipes of ResNet-18, ResNet-50, MobileNet-V2 and EfficientNet-lite are the table in the README
of the paper's code (see :data:`PRESETS`); the others are ours and say so.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from pvqbounds.errors import InputError, shown
from pvqbounds.nn.names import IMAGE_SIZE, INTERPOLATION
from pvqbounds.problems.grids import symmetric_codes
from pvqbounds.problems.supports import checked_pattern
from pvqbounds.storage.archive import parse_json, read_bytes

__all__ = [
    "PRESETS",
    "Compression",
    "Ends",
    "Pruning",
    "Quantization",
    "Recipe",
    "overridden",
    "recipe_from_json",
    "recipe_named",
]

Ends = Literal["8-bit", "same", "dense"]
"""What becomes of the first and of the last layer, for quantization and pruning alike: "8-bit" gives
them at least 8 bits, or a density of at least 8/16; "same" treats them like every other layer;
"dense" leaves them as they are."""

Scope = Literal["layer", "network", "pattern", "channel"]
"""Where magnitudes are compared: within each layer, over the network, within groups of an N:M
pattern, or between the output channels of each layer (structured pruning)."""

FULL_BITS = 16
"""Bits of an uncompressed weight, as in the paper: b bits have the size of density b/16."""


@dataclass(frozen=True)
class Quantization:
    """Quantization-aware training with learned step sizes (LSQ)."""

    bits: int = 4
    """Bits a weight; symmetric uniform grid."""
    per_channel: bool = False
    """One scale for each output channel in place of one for the layer."""
    range_method: Literal["mse", "minmax"] = "mse"
    """How scales are initialised."""
    scale_rate: float = 1e-5
    """Learning rate of the scales, which have an Adam optimiser of their own."""
    gradient_scaling: bool = True
    """Scale gradients by 1/sqrt(weights of the scale * qmax), as LSQ does."""
    activation_bits: int | None = None
    """Bits of the inputs of quantized layers; None leaves them alone."""
    dampen: float = 0.0
    """Weight of the oscillation-dampening loss from `anneal_from` on."""
    dampen_final: float = 0.0
    """Its weight at the end."""
    freeze: float = 0.0
    """Oscillation frequency above which a weight is frozen, from `anneal_from` on; 0: never."""
    freeze_final: float = 0.0
    """That threshold at the end."""
    freeze_momentum: float = 0.01
    """Momentum of the moving averages behind the frequency and the frozen code."""
    anneal_from: float = 0.25
    """Fraction of the training at which dampening and freezing begin; cosine from there."""

    def check(self) -> None:
        """Raise an InputError if a value cannot be used."""
        symmetric_codes(self.bits)
        if self.activation_bits is not None:
            symmetric_codes(self.activation_bits)
        _check_positive(self, "scale_rate")
        _check_range(self, "anneal_from", 0.0, 1.0)
        _check_range(self, "freeze_momentum", 0.0, 1.0)
        for name in ("dampen", "dampen_final"):
            _check_range(self, name, 0.0, 1e9)
        for name in ("freeze", "freeze_final"):
            _check_range(self, name, 0.0, 1.0)
        if (self.freeze > 0.0) != (self.freeze_final > 0.0):
            raise InputError("freeze and freeze_final are both positive (freezing) or both 0 (none).")


@dataclass(frozen=True)
class Pruning:
    """Gradual magnitude pruning (Zhu and Gupta)."""

    sparsity: float = 0.75
    """Fraction of the weights (of the output channels, for scope "channel") that is removed."""
    scope: Scope = "layer"
    pattern: str | None = None
    """N:M of scope "pattern": keep at most N of M consecutive input channels; it sets the sparsity."""
    initial_sparsity: float = 0.0
    prune_from: float = 0.0
    """Fraction of the training at which the cubic schedule begins."""
    prune_until: float = 0.75
    """Fraction at which it has reached `sparsity` and the masks are final; the rest re-fits."""
    every: int = 50
    """Steps between two updates of the masks."""

    def check(self) -> None:
        """Raise an InputError if a value cannot be used."""
        if self.scope == "pattern":
            if self.pattern is None:
                raise InputError("Pruning of scope 'pattern' needs the pattern, such as 2:4.")
            _pattern(self.pattern)
        elif self.pattern is not None:
            raise InputError(f"An N:M pattern belongs to scope 'pattern', not to scope '{self.scope}'.")
        for name in ("sparsity", "initial_sparsity", "prune_from", "prune_until"):
            _check_range(self, name, 0.0, 1.0)
        if self.scope != "pattern" and not self.initial_sparsity <= self.sparsity < 1.0:
            raise InputError(
                f"The sparsity must lie between the initial one ({self.initial_sparsity:g}) and 1 "
                f"(not included), but is {self.sparsity:g}."
            )
        if not self.prune_from < self.prune_until:
            raise InputError("prune_from must lie before prune_until.")
        _check_whole(self, "every", 1)

    @property
    def final_sparsity(self) -> float:
        """What the schedule ends at: the sparsity, or what the pattern removes."""
        if self.scope != "pattern":
            return self.sparsity
        kept, size = _pattern(self.pattern)
        return 1.0 - kept / size


Compression = Quantization | Pruning


@dataclass(frozen=True)
class Recipe:
    """One fine-tuning run."""

    compression: Compression | None
    """None trains the dense model, for comparison."""
    model: str = "digits"
    """As for :func:`pvqbounds.nn.load_model`."""
    weights: str | None = None
    """`.safetensors` file of the dense weights; None for those of the embedded network."""
    data: str | None = None
    """Folder in ImageNet's layout; None for the embedded digits."""
    epochs: int = 20
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 1e-4
    final_rate: float = 1e-2
    """Fraction of the learning rate that the cosine schedule ends at."""
    ends: Ends = "8-bit"
    reestimate_batches: int = 50
    """Training batches from which batch-norm statistics are estimated again at the end; 0: none."""
    precision: Literal["32", "bf16"] = "32"
    """"bf16" trains in mixed precision; master weights and scales stay in float32."""
    image_size: int = IMAGE_SIZE
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = INTERPOLATION
    calibration_images: int = 512
    """Images of a directory that stand behind the scales of activations and the bounds."""
    seed: int = 0
    source: str = "ours"
    """Where the numbers come from."""

    def check(self) -> None:
        """Raise an InputError if a value cannot be used."""
        for name in ("epochs", "batch_size", "image_size", "calibration_images"):
            _check_whole(self, name, 1)
        for name in ("reestimate_batches", "seed"):
            _check_whole(self, name, 0)
        _check_positive(self, "learning_rate")
        _check_range(self, "momentum", 0.0, 1.0)
        _check_range(self, "weight_decay", 0.0, 1e9)
        _check_range(self, "final_rate", 0.0, 1.0)
        if self.compression is not None:
            self.compression.check()

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(N, M) of pruning by a pattern, else None."""
        pruning = self.compression
        return _pattern(pruning.pattern) if isinstance(pruning, Pruning) and pruning.pattern else None

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        document = asdict(self)
        kind = None if self.compression is None else type(self.compression).__name__.lower()
        return {"schema": SCHEMA, "task": kind} | document


SCHEMA = "pvqbounds.recipe/1"
TASKS: Mapping[str, type[Quantization] | type[Pruning]] = {"quantization": Quantization, "pruning": Pruning}


def recipe_from_json(document: Any, name: str | Path) -> Recipe:
    """Read what :meth:`Recipe.to_json` wrote.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InputError(f"{name} is no configuration of a training run (its schema is not {SCHEMA}).")
    values = {key: value for key, value in document.items() if key not in ("schema", "task")}
    kind, inner = TASKS.get(str(document.get("task"))), values.pop("compression", None)
    if (kind is None) != (inner is None) or not isinstance(inner, dict | None):
        raise InputError(f"{name} names no task, or not what belongs to it.")
    compression = None if kind is None else kind()
    return overridden(Recipe(compression), values | (inner or {}), name)


def recipe_named(name: str) -> Recipe:
    """Find a preset by its name, or a recipe in the file of that name (config.json of a run).

    Raises
    ------
    InputError
        If there is neither.
    """
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if path.suffix == ".json":
        return recipe_from_json(parse_json(read_bytes(path, 2**20), path), path)
    near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise InputError(
        f"There is no preset '{name}'{hint}; there are {', '.join(PRESETS)}, and files config.json of a run."
    )


def overridden(recipe: Recipe, values: Mapping[str, Any], where: str | Path = "--set") -> Recipe:
    """`recipe` with some values replaced, those of its compression by their own names.

    Parameters
    ----------
    values
        Texts are read as the type of the field wants them ("none" for None).
    where
        Where the values come from, for messages.

    Raises
    ------
    InputError
        If a name is unknown (the nearest is given) or a value cannot be used.
    """
    inner = recipe.compression
    outer_names = {field.name for field in fields(Recipe)} - {"compression"}
    inner_names = {field.name for field in fields(inner)} if inner is not None else set()
    outer_values: dict[str, Any] = {}
    inner_values: dict[str, Any] = {}
    for key, value in values.items():
        if key in outer_names:
            outer_values[key] = _parsed(Recipe, key, value, where)
        elif inner is not None and key in inner_names:
            inner_values[key] = _parsed(type(inner), key, value, where)
        else:
            near = difflib.get_close_matches(key, outer_names | inner_names, n=1, cutoff=0.4)
            hint = f"; did you mean '{near[0]}'" if near else ""
            raise InputError(f"{where}: there is no value '{key}' here{hint}.")
    if inner is not None:
        outer_values["compression"] = replace(inner, **inner_values)
    changed: Recipe = replace(recipe, **outer_values)
    changed.check()
    return changed


def _parsed(owner: type, name: str, value: Any, where: str | Path) -> Any:
    """`value` as the type of the field of that name."""
    hint = typing.get_type_hints(owner)[name]
    allowed = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    for kind in allowed:
        found = _as_kind(kind, value)
        if found is not MISFIT:
            return found
    wanted = " or ".join(_kind_name(kind) for kind in allowed)
    raise InputError(f"{where}: {name} must be {wanted}, not {shown(value)}.")


MISFIT = object()


def _as_kind(kind: Any, value: Any) -> Any:
    """`value` as `kind`, or MISFIT."""
    if typing.get_origin(kind) is Literal:
        return value if value in typing.get_args(kind) else MISFIT
    if kind is type(None):
        return None if value is None or str(value).lower() == "none" else MISFIT
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        return value if isinstance(value, bool) else words.get(str(value).lower(), MISFIT)
    if isinstance(value, bool) or value is None:
        return MISFIT
    if kind is str:
        return value if isinstance(value, str) else MISFIT
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        return MISFIT
    return number if isinstance(value, str) or number == value else MISFIT


def _kind_name(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(kind))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind, "none")


def _pattern(text: str | None) -> tuple[int, int]:
    kept, _, size = str(text).partition(":")
    if not (kept.isdecimal() and size.isdecimal()):
        raise InputError(f"The pattern must be two whole numbers like 2:4, not {shown(text)}.")
    if int(kept) == 0:
        raise InputError("A pattern must keep at least one weight of each group.")
    return checked_pattern((int(kept), int(size)))


def _check_positive(owner: Any, name: str) -> None:
    value = getattr(owner, name)
    if not 0.0 < value < float("inf"):
        raise InputError(f"{name} must be a positive number, not {shown(value)}.")


def _check_range(owner: Any, name: str, low: float, high: float) -> None:
    value = getattr(owner, name)
    if not low <= value <= high:
        raise InputError(f"{name} must lie between {low:g} and {high:g}, not {shown(value)}.")


def _check_whole(owner: Any, name: str, low: int) -> None:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{name} must be a whole number of at least {low}, not {shown(value)}.")


PAPER = "README of the paper's code"
DIGITS = "ours, for the embedded network"
ANALOGY = "ours, by analogy: the paper's code has no recipe for this model"


def _pair(
    name: str,
    model: str,
    batch_size: int,
    weight_decay: float,
    *,
    prune_rate: float,
    quantize_rate: float,
    source: str = PAPER,
    pruning: Pruning | None = None,
) -> dict[str, Recipe]:
    """Make the two presets of one model: NAME-int4 and NAME-75."""
    common = Recipe(None, model, batch_size=batch_size, weight_decay=weight_decay, source=source)
    return {
        f"{name}-int4": replace(common, compression=Quantization(), learning_rate=quantize_rate),
        f"{name}-75": replace(common, compression=pruning or Pruning(), learning_rate=prune_rate),
    }


PRESETS: Mapping[str, Recipe] = {
    **_pair(
        "digits",
        "digits",
        64,
        1e-4,
        prune_rate=2e-2,
        quantize_rate=2e-2,
        source=DIGITS,
        pruning=Pruning(every=10),
    ),
    **_pair("resnet18", "resnet18", 256, 1e-4, prune_rate=1e-2, quantize_rate=1e-2),
    **_pair("resnet50", "resnet50", 128, 1e-4, prune_rate=3.3e-2, quantize_rate=1e-5),
    **_pair("mobilenet_v2", "mobilenet_v2", 128, 5e-5, prune_rate=3.3e-4, quantize_rate=3.3e-4),
    **_pair("efficientnet", "efficientnet", 128, 5e-5, prune_rate=3.3e-4, quantize_rate=3.3e-3),
    **_pair(
        "mobilenet_v3_small",
        "mobilenet_v3_small",
        128,
        5e-5,
        prune_rate=3.3e-4,
        quantize_rate=3.3e-4,
        source=ANALOGY,
    ),
    **_pair("vit", "vit", 128, 1e-4, prune_rate=1e-3, quantize_rate=1e-3, source=ANALOGY),
}
"""Common to all, as in the paper: 20 epochs, SGD with momentum 0.9, cosine schedule down to 1e-2 of
the learning rate; one scale a layer, least-squares range, Adam at 1e-5 for the scales; pruning from
epoch 0 to 15. The first and last layer have 8 bits in the paper's quantization, but were pruned like
the others; here `ends` holds for both. Its schedule began one epoch early; here it begins at 0."""
