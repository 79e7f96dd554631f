"""The training loop: one for quantization, for pruning and for the dense model.

Every epoch seeds its own random numbers from (seed, epoch, process), so that a run resumed after an
epoch goes on bit for bit where the device computes reproducibly (a CPU with the same threads does).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from pvqbounds.errors import InputError, TrainingError, checked_flags
from pvqbounds.train.accuracy import accuracy
from pvqbounds.train.batchnorm import reestimate
from pvqbounds.train.checkpoint import load_checkpoint, restore, save_checkpoint
from pvqbounds.train.data import Batch, Corrupt, TrainingData, calibration_batches, check_head, loader_of
from pvqbounds.train.engine import Engine
from pvqbounds.train.outcome import Outcome
from pvqbounds.train.presets import Quantization, Recipe
from pvqbounds.train.prune import Pruner
from pvqbounds.train.quantize import Quantizer
from pvqbounds.train.sizes import compressible, layer_bits, layer_densities, layer_patterns

__all__ = [
    "Compressed",
    "Compressor",
    "Epoch",
    "FitMoment",
    "build_compressor",
    "build_optimizers",
    "fine_tune",
    "training_step",
]

CHECKPOINT = "checkpoint.pt"

LOOK_EVERY = 20
"""Steps between two looks at the loss: a look waits for the device."""


class Compressor(Protocol):
    """What the loop asks of quantization and of pruning."""

    def optimizers(self) -> list[Optimizer]:
        """Those of its own parameters, which the model's optimiser leaves alone."""

    def penalty(self, progress: float) -> Tensor | None:
        """An addition to the loss."""

    def after_step(self, progress: float, step: int) -> None:
        """Called after each step of the optimisers."""

    def failure(self) -> str:
        """Why the run cannot go on; empty where it can."""

    def sparsity(self) -> float:
        """Fraction of the weights of compressed layers that are zero."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds besides the model."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""

    def outcome(self) -> Mapping[str, Outcome]:
        """What became of each layer."""

    def remove(self) -> None:
        """Leave plain layers with the compressed weights."""


class Uncompressed:
    """Dense training, for comparison."""

    def optimizers(self) -> list[Optimizer]:
        """None."""
        return []

    def penalty(self, progress: float) -> Tensor | None:
        """None."""
        return None

    def after_step(self, progress: float, step: int) -> None:
        """Nothing."""

    def failure(self) -> str:
        """Nothing."""
        return ""

    def sparsity(self) -> float:
        """Zero."""
        return 0.0

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing."""

    def outcome(self) -> Mapping[str, Outcome]:
        """Nothing."""
        return {}

    def remove(self) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Epoch:
    """One epoch, as the history keeps it."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean training loss."""
    accuracy: float
    """On the test data, from 0 to 1."""
    sparsity: float
    learning_rate: float
    """At its end."""
    seconds: float


@dataclass(frozen=True)
class FitMoment:
    """Where a run stands: what a progress display shows."""

    step: int
    steps: int
    """In all epochs together."""
    epoch: int
    epochs: int
    loss: float
    accuracy: float
    """After the last epoch, nan before the first has ended."""
    sparsity: float
    seconds_left: float
    ended: Epoch | None = None
    """The epoch that has just ended."""


@dataclass(frozen=True, eq=False)
class Compressed:
    """A compressed model, and what became of each of its layers."""

    model: nn.Module
    """Plain layers with the compressed weights."""
    layers: Mapping[str, Outcome]
    accuracy_before: float
    """Of the dense model on the test data, from 0 to 1."""
    accuracy_after: float
    history: tuple[Epoch, ...]
    sparsity: float
    corrupt: tuple[str, ...]
    """Images that could not be decoded and were left out, each with the reason."""
    seconds: float


Progress = Callable[[FitMoment], None]


def fine_tune(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    *,
    folder: Path | None = None,
    resume: bool = False,
    engine: Engine | None = None,
    workers: int = 0,
    skip_corrupt: bool = False,
    tensorboard: Path | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Train a model with quantization, with pruning or as it is.

    Parameters
    ----------
    model
        The dense model; it is changed in place.
    data
        See :func:`pvqbounds.train.digits_data` and :func:`pvqbounds.train.image_data`.
    recipe
        Every number of the run.
    folder
        Where the checkpoint is written after every epoch; nothing is written if None.
    resume
        Go on from the folder's checkpoint.
    engine
        Where to compute; the CPU or the one GPU there is, if None.
    workers
        Processes that load images.
    skip_corrupt
        Leave out images that cannot be decoded, and list them in the result, in place of stopping.
    tensorboard
        Folder for TensorBoard's curves.
    progress
        Called as the run goes on.

    Raises
    ------
    InputError
        If recipe, model, data or checkpoint do not fit together or cannot be used.
    TrainingError
        If the loss is not finite, or memory runs out; the checkpoint of the last epoch stays.
    """
    checked_flags(resume=resume, skip_corrupt=skip_corrupt)
    recipe.check()
    engine = engine or Engine(precision=recipe.precision)
    gpu = [engine.device] if engine.device.type == "cuda" else []
    with torch.random.fork_rng(gpu):
        run = _Run(model, data, recipe, folder, engine, workers, Corrupt(skip_corrupt), progress)
        with _memory_errors(recipe.batch_size, folder):
            return run.complete(resume, tensorboard)


class _Run:
    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        recipe: Recipe,
        folder: Path | None,
        engine: Engine,
        workers: int,
        corrupt: Corrupt,
        progress: Progress | None,
    ) -> None:
        self._model, self._data, self._recipe, self._engine = model, data, recipe, engine
        self._checkpoint = None if folder is None else folder / CHECKPOINT
        self._workers, self._corrupt = workers, corrupt
        self._progress: Progress = progress if progress is not None else lambda moment: None
        self._history: list[Epoch] = []

    def complete(self, resume: bool, tensorboard: Path | None) -> Compressed:
        start = time.perf_counter()
        recipe, engine, model = self._recipe, self._engine, self._model
        # opened first, so that a wrong name costs no work
        checkpoint = self._checkpoint if resume else None
        content = None if checkpoint is None else load_checkpoint(checkpoint)
        model.to(engine.device)
        check_head(model, self._data)
        self._seed(0)
        before = content["progress"]["accuracy_before"] if content else self._accuracy()
        self._compressor = build_compressor(model, recipe, self._data, self._corrupt)
        optimizers = build_optimizers(model, recipe, self._compressor)
        self._forward, prepared = engine.prepare(model, optimizers)
        if content is not None and checkpoint is not None:
            restore(content, checkpoint, recipe, model, optimizers)
            self._compressor.load_state(content["compression"])
            self._history = [Epoch(**entry) for entry in content["progress"]["history"]]
        self._started, self._first_epoch = time.perf_counter(), len(self._history)
        with _curves(tensorboard if engine.rank == 0 else None) as curve:
            for epoch in range(len(self._history), recipe.epochs):
                ended = self._epoch(epoch, prepared)
                self._history.append(ended)
                self._save(optimizers, before)
                curve(ended)
                self._show(epoch + 1, 0, ended.loss, ended)
        self._seed(recipe.epochs)
        reestimate(model, self._loader(recipe.epochs), recipe.reestimate_batches, engine)
        after = self._accuracy()
        layers, sparsity = self._compressor.outcome(), self._compressor.sparsity()
        self._compressor.remove()
        model.eval()
        return Compressed(
            model=model,
            layers=layers,
            accuracy_before=before,
            accuracy_after=after,
            history=tuple(self._history),
            sparsity=sparsity,
            corrupt=tuple(self._corrupt.names),
            seconds=time.perf_counter() - start,
        )

    def _seed(self, epoch: int) -> None:
        words = np.random.SeedSequence([self._recipe.seed, epoch, self._engine.rank]).generate_state(2)
        torch.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)

    def _loader(self, epoch: int) -> DataLoader[Batch]:
        engine = self._engine
        order: DistributedSampler[int] = DistributedSampler(
            self._data.train,  # type: ignore[arg-type]
            engine.size,
            engine.rank,
            seed=self._recipe.seed,
        )
        order.set_epoch(epoch)
        size = min(self._recipe.batch_size, len(order))
        return loader_of(self._data.train, size, order=order, whole=True, workers=self._workers)

    def _epoch(self, epoch: int, optimizers: list[Any]) -> Epoch:
        started, recipe = time.perf_counter(), self._recipe
        self._seed(epoch)
        self._model.train()
        loader = self._loader(epoch)
        self._steps = len(loader)
        rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        summed, counted, recent = 0.0, 0, torch.zeros((), device=self._engine.device)
        for step, batch in enumerate(loader):
            self._corrupt.check(batch)
            if len(batch.labels) < 2:
                if self._engine.size > 1:  # the others would wait for this process
                    raise InputError("A whole batch of images cannot be decoded; mend or remove them.")
                continue
            position = epoch + step / self._steps
            rates = self._set_rates(optimizers, position / recipe.epochs)
            done = epoch * self._steps + step + 1
            recent += training_step(
                self._forward,
                self._engine.to_device(batch),
                optimizers,
                self._compressor,
                self._engine,
                done,
                recipe.epochs * self._steps,
            )
            counted += 1
            if counted % LOOK_EVERY == 0 or step == self._steps - 1:
                summed, recent = summed + self._looked_at(recent, epoch, step), torch.zeros_like(recent)
                self._show(epoch, step + 1, summed / counted)
        if counted == 0:
            raise InputError(f"None of the training images of {self._data.name} can be decoded.")
        summed += self._looked_at(recent, epoch, self._steps - 1)
        return Epoch(
            epoch=epoch + 1,
            loss=summed / counted,
            accuracy=self._accuracy(),
            sparsity=self._compressor.sparsity(),
            learning_rate=rates[0],
            seconds=time.perf_counter() - started,
        )

    def _looked_at(self, recent: Tensor, epoch: int, step: int) -> float:
        """Summed loss of the last steps; stop where it is not finite."""
        loss = float(recent)
        why = "" if math.isfinite(loss) else "the loss is not finite; lower learning_rate"
        why = why or self._compressor.failure()
        if why:
            kept = ""
            if self._checkpoint is not None and self._history:
                kept = (
                    f" The checkpoint of epoch {len(self._history)} is kept in {self._checkpoint}: "
                    "go on from it with --resume."
                )
            raise TrainingError(f"Epoch {epoch + 1}, step {step + 1}: {why}.{kept}")
        return loss

    def _set_rates(self, optimizers: list[Any], progress: float) -> list[float]:
        """Cosine from each optimiser's rate down to `final_rate` of it."""
        r = self._recipe
        factor = r.final_rate + (1.0 - r.final_rate) * 0.5 * (1.0 + math.cos(math.pi * progress))
        firsts = [r.learning_rate]
        if isinstance(r.compression, Quantization):
            firsts.append(r.compression.scale_rate)
        for optimizer, first in zip(optimizers, firsts, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = first * factor
        return [first * factor for first in firsts]

    def _accuracy(self) -> float:
        return accuracy(
            self._model,
            self._data,
            self._engine,
            batch_size=self._recipe.batch_size,
            workers=self._workers,
            corrupt=self._corrupt,
        )

    def _save(self, optimizers: list[Optimizer], before: float) -> None:
        if self._checkpoint is not None and self._engine.rank == 0:
            state = {"accuracy_before": before, "history": [asdict(epoch) for epoch in self._history]}
            save_checkpoint(
                self._checkpoint, self._model, optimizers, self._compressor.state(), self._recipe, state
            )
        self._engine.barrier()

    def _show(self, epoch: int, step: int, loss: float, ended: Epoch | None = None) -> None:
        if self._engine.rank != 0:
            return
        steps, done = self._recipe.epochs * self._steps, epoch * self._steps + step
        here = done - self._first_epoch * self._steps
        spent = time.perf_counter() - self._started
        last = self._history[-1] if self._history else None
        self._progress(
            FitMoment(
                step=done,
                steps=steps,
                epoch=min(epoch + 1, self._recipe.epochs) if ended is None else ended.epoch,
                epochs=self._recipe.epochs,
                loss=loss,
                accuracy=math.nan if last is None else last.accuracy,
                sparsity=math.nan if last is None else last.sparsity,
                seconds_left=spent * (steps - done) / max(here, 1),
                ended=ended,
            )
        )


def training_step(
    forward: nn.Module,
    batch: Batch,
    optimizers: list[Any],
    compressor: Compressor,
    engine: Engine,
    step: int,
    steps: int,
) -> Tensor:
    """One step of all optimisers, the `step`-th of `steps` counted from 1; gives the loss."""
    with parametrize.cached():  # a weight that is read twice is quantized once
        loss = nn.functional.cross_entropy(forward(batch.inputs), batch.labels)
        penalty = compressor.penalty((step - 1) / steps)
        total = loss if penalty is None else loss + penalty
    for optimizer in optimizers:
        optimizer.zero_grad()
    engine.backward(total)
    for optimizer in optimizers:
        optimizer.step()
    compressor.after_step(step / steps, step)
    return loss.detach()


def build_compressor(
    model: nn.Module, recipe: Recipe, data: TrainingData, corrupt: Corrupt | None = None
) -> Compressor:
    """Prepare the model for what the recipe does to it.

    Raises
    ------
    InputError
        If the model has no layer for it.
    """
    settings = recipe.compression
    if settings is None:
        return Uncompressed()
    names = compressible(model)
    if isinstance(settings, Quantization):
        example = None
        if settings.activation_bits is not None:
            example = next(calibration_batches(data, corrupt=corrupt)())
        return Quantizer(model, layer_bits(names, settings.bits, recipe.ends), settings, example)
    densities = layer_densities(names, settings, recipe.ends)
    if recipe.pattern is None:
        return Pruner(model, densities, settings)
    patterns = layer_patterns(model, names, recipe.pattern, recipe.ends)
    return Pruner(model, {name: densities[name] for name in patterns}, settings, patterns)


def build_optimizers(model: nn.Module, recipe: Recipe, compressor: Compressor) -> list[Optimizer]:
    """One optimiser for the model, and those of what the compressor learns besides."""
    own = compressor.optimizers()
    theirs = {id(p) for optimizer in own for group in optimizer.param_groups for p in group["params"]}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in theirs]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    main: Optimizer = (
        torch.optim.SGD(others, rate, recipe.momentum, weight_decay=decay)
        if recipe.optimizer == "sgd"
        else torch.optim.Adam(others, rate, weight_decay=decay, foreach=True)
    )
    return [main, *own]


@contextmanager
def _memory_errors(batch_size: int, folder: Path | None) -> Iterator[None]:
    """Say, where memory runs out, which batch size to try."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        allocation = "allocate memory" in str(error) or "not enough memory" in str(error)
        if isinstance(error, RuntimeError) and not (isinstance(error, torch.OutOfMemoryError) or allocation):
            raise
        kept = "" if folder is None else " and --resume, where a checkpoint was written"
        advice = (
            f"try --batch-size {batch_size // 2}{kept}"
            if batch_size > 1
            else "take a smaller model or images"
        )
        raise TrainingError(f"Memory ran out with batches of {batch_size}; {advice}.") from error


@contextmanager
def _curves(folder: Path | None) -> Iterator[Callable[[Epoch], None]]:
    """A function that writes each epoch to TensorBoard, or nowhere."""
    if folder is None:
        yield lambda epoch: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            f"TensorBoard's curves need its package ({error}); install it with `pip install tensorboard`."
        ) from error
    with SummaryWriter(str(folder)) as writer:

        def write(epoch: Epoch) -> None:
            for name in ("loss", "accuracy", "sparsity", "learning_rate"):
                writer.add_scalar(name, getattr(epoch, name), epoch.epoch)

        yield write
