"""Running a model on batches, to look at it and not to train it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn.batches import Batch

__all__ = ["as_written", "run"]


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Hold a model in evaluation mode, without gradients and without what torch.compile made of it.

    Its modules' modes are restored afterwards.
    """
    with _evaluating(model), torch.no_grad(), _uncompiled():
        yield


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Hold the model in evaluation mode; give each module its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run modules as they are written: compiled code does not call hooks, and fused attention no layers."""
    fused = torch.backends.mha.get_fastpath_enabled()
    stance: Callable[[str], Any] | None = getattr(torch.compiler, "set_stance", None)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with nullcontext() if stance is None else stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def run(model: nn.Module, batch: Batch) -> Any:
    """What the model gives for a batch, on its own device, floating-point inputs in its dtype.

    Raises
    ------
    InputError
        If it cannot run on that.
    """
    home = next(model.parameters())

    def there(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        floating = value.is_floating_point() and home.is_floating_point()
        return value.to(home.device, home.dtype if floating else value.dtype)

    first = () if batch.first is None else (there(batch.first),)
    try:
        return model(*first, **{name: there(value) for name, value in batch.named.items()})
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        shapes = [f"shape {tuple(x.shape)} and type {there(x).dtype}" for x in batch.tensors]
        raise InputError(f"The model cannot run on data of {', '.join(shapes)}: {reason}.") from error
