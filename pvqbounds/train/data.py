"""Training and test data: the embedded digits, and directories in ImageNet's layout.

Images that cannot be decoded are never replaced or dropped silently: a batch carries their names,
and what becomes of them is decided by the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from pvqbounds.errors import InputError
from pvqbounds.nn import embedded
from pvqbounds.nn.image_folders import evenly, scan, statistics_of
from pvqbounds.nn.images import Transform, centre_crop, decode
from pvqbounds.storage.archive import parse_arrays, read_bytes
from pvqbounds.train.images import random_crop

__all__ = [
    "ArrayDataset",
    "Batch",
    "Corrupt",
    "ImageFolder",
    "TrainingData",
    "calibration_batches",
    "check_head",
    "digits_data",
    "image_data",
    "loader_of",
]


class Batch(NamedTuple):
    """Images, labels, and the images that could not be decoded and are missing here."""

    inputs: Tensor
    labels: Tensor
    corrupt: tuple[str, ...] = ()


@dataclass
class Corrupt:
    """Images that could not be decoded: an error, or named, counted and left out."""

    skip: bool
    names: dict[str, None] = field(default_factory=dict)
    """Each with the reason, in the order in which they were met."""
    seen: int = 0

    def check(self, batch: Batch) -> None:
        """Take note of a batch.

        Raises
        ------
        InputError
            If an image is missing in it and may not be.
        """
        self.seen += len(batch.labels) + len(batch.corrupt)
        self.names.update(dict.fromkeys(batch.corrupt))
        if self.names and not self.skip:
            listed = ", ".join(list(self.names)[:3]) + (", ..." if len(self.names) > 3 else "")
            raise InputError(
                f"{len(self.names)} of the first {self.seen} images cannot be decoded: {listed}; "
                "mend or remove them, or leave such images out with --skip-corrupt."
            )


class BatchedDataset(Protocol):
    """A map-style dataset that gives a whole batch at a time."""

    def __len__(self) -> int:
        """Samples."""

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Give the batch of these samples."""


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on, is tested on, and takes its calibration inputs from."""

    name: str
    classes: tuple[str, ...]
    train: BatchedDataset
    test: BatchedDataset
    calibration: BatchedDataset


class ArrayDataset:
    """Inputs and labels that stand in memory."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self._inputs, self._labels = inputs, labels

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = torch.as_tensor(list(indices))
        return Batch(self._inputs[chosen], self._labels[chosen])


def digits_data() -> TrainingData:
    """The embedded digits: 1437 training and 360 test images of shape (1, 8, 8), values 0 to 1.

    Calibration inputs are the 256 training images that the bounds use everywhere.
    """
    path = Path(embedded.__path__[0]) / "digits_images.npz"
    arrays = parse_arrays(read_bytes(path), path)

    def dataset(part: str, rows: Any = slice(None)) -> ArrayDataset:
        images = torch.from_numpy(arrays[part][rows]).float().div(16).unsqueeze(1)
        return ArrayDataset(images, torch.from_numpy(arrays[f"{part}_labels"][rows].astype(np.int64)))

    return TrainingData(
        "digits",
        tuple(str(digit) for digit in range(10)),
        dataset("train"),
        dataset("test"),
        dataset("train", arrays["calibration"]),
    )


class ImageFolder:
    """Images in one folder a class.

    Parameters
    ----------
    files
        (path, class) of each image.
    transform
        From a decoded image to a tensor.
    """

    def __init__(self, files: Sequence[tuple[str, int]], transform: Transform) -> None:
        self._files, self._transform = files, transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        images, labels, corrupt = [], [], []
        for index in indices:
            path, label = self._files[index]
            try:
                images.append(self._transform(decode(path)))
            except ValueError as error:
                corrupt.append(f"{path} ({error})")
            else:
                labels.append(label)
        inputs = torch.stack(images) if images else torch.empty(0)
        return Batch(inputs, torch.tensor(labels, dtype=torch.int64), tuple(corrupt))


def image_data(
    root: Path, *, image_size: int, interpolation: str, calibration_images: int, seed: int, model: nn.Module
) -> TrainingData:
    """Data in ImageNet's layout: ROOT/train/CLASS/image, ROOT/val/CLASS/image.

    Parameters
    ----------
    image_size
        Height and width of what the model is given.
    interpolation
        Name of the resampling filter.
    calibration_images
        How many training images stand behind activation scales and bounds, drawn evenly from the
        classes; they are cropped as for a test.
    model
        A timm model names the mean and standard deviation that it was trained with; others get
        ImageNet's.

    Raises
    ------
    InputError
        If a folder is missing or empty, or the classes of the two parts differ.
    """
    classes, files = {}, {}
    for part in ("train", "val"):
        classes[part], files[part] = scan(root / part)
    absent = set(classes["train"]) ^ set(classes["val"])
    if absent:
        first = sorted(absent)[0]
        part = "val" if first in classes["train"] else "train"
        others = f" (and {len(absent) - 1} more differ)" if len(absent) > 1 else ""
        raise InputError(f"{root / part} has no folder '{first}', but the other part has one{others}.")
    statistics = statistics_of(model)
    testing = centre_crop(image_size, interpolation, **statistics)
    return TrainingData(
        root.name,
        tuple(classes["train"]),
        ImageFolder(files["train"], random_crop(image_size, interpolation, **statistics)),
        ImageFolder(files["val"], testing),
        ImageFolder(evenly(files["train"], calibration_images, seed), testing),
    )


def loader_of(
    data: BatchedDataset,
    batch_size: int,
    *,
    order: Sampler[int] | None = None,
    whole: bool = False,
    workers: int = 0,
) -> DataLoader[Batch]:
    """Batches of `data`, in the given order or in its own.

    Parameters
    ----------
    whole
        Drop a last batch that is not full; fewer samples than a batch are one batch.
    workers
        Processes that load.
    """
    size = min(batch_size, len(data))
    dataset: Dataset[Batch] = data  # type: ignore[assignment]
    return DataLoader(
        dataset,
        size,
        sampler=order,
        drop_last=whole,
        num_workers=workers,
        collate_fn=_same,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )


def _same(batch: Any) -> Any:
    return batch  # `__getitems__` has made it


def calibration_batches(
    data: TrainingData, batch_size: int = 64, corrupt: Corrupt | None = None
) -> Callable[[], Iterator[Tensor]]:
    """A function that goes through the calibration inputs anew, batch by batch.

    It raises an InputError at an image that cannot be decoded, unless `corrupt` lets it pass.
    """
    noted = corrupt if corrupt is not None else Corrupt(skip=False)

    def batches() -> Iterator[Tensor]:
        for batch in loader_of(data.calibration, batch_size):
            noted.check(batch)
            if len(batch.inputs):
                yield batch.inputs

    return batches


def check_head(model: nn.Module, data: TrainingData) -> None:
    """Hold the model's outputs against the classes of the data.

    Raises
    ------
    InputError
        If their numbers differ, or the model cannot run on the data.
    """
    example = next(calibration_batches(data, 1, Corrupt(skip=True))(), None)  # one that can be decoded
    if example is None:
        raise InputError(f"None of the calibration images of {data.name} can be decoded.")
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            scores = model(example.to(next(model.parameters()).device))
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"The model cannot run on images of shape {tuple(example.shape[1:])}: {reason}."
        ) from error
    finally:
        model.train(training)
    outputs = scores.shape[-1] if isinstance(scores, Tensor) and scores.dim() == 2 else 0
    if outputs != len(data.classes):
        raise InputError(
            f"The data have {len(data.classes)} classes, but the model's head has {outputs} outputs; "
            "give a model with a head of that size, or the folders of the classes that it was trained on."
        )
