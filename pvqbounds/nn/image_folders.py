"""Folders of images in ImageNet's layout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pvqbounds.errors import InputError
from pvqbounds.nn.images import Transform, centre_crop, decode
from pvqbounds.nn.names import IMAGE_SIZE, INTERPOLATION
from pvqbounds.nn.weights import line

__all__ = ["Images", "evenly", "image_batches", "scan", "statistics_of"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Images:
    """Batches of images from a folder, read anew each time."""

    files: list[tuple[str, int]]
    transform: Transform
    batch_size: int = 32

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.files), self.batch_size):
            batch = []
            for path, _ in self.files[start : start + self.batch_size]:
                try:
                    batch.append(self.transform(decode(path)))
                except ValueError as error:
                    raise InputError(f"{path} cannot be decoded ({line(error)}).") from error
            yield torch.stack(batch)


def image_batches(folder: Path, module: nn.Module, count: int, seed: int) -> Images:
    """Images in ImageNet's layout, drawn evenly from the classes and prepared as for a test of the model.

    Raises
    ------
    InputError
        If there are none.
    """
    _, files = scan(folder / "train" if (folder / "train").is_dir() else folder)
    config = getattr(module, "pretrained_cfg", None) or {}
    size = (config.get("input_size") or (IMAGE_SIZE,))[-1]
    transform = centre_crop(size, config.get("interpolation") or INTERPOLATION, **statistics_of(module))
    return Images(evenly(files, count, seed), transform)


def statistics_of(module: nn.Module) -> dict[str, tuple[float, ...]]:
    """Mean and standard deviation that a timm model was trained with; none of others: they get ImageNet's."""
    config = getattr(module, "pretrained_cfg", None) or {}
    return {key: tuple(config[key]) for key in ("mean", "std") if config.get(key)}


def scan(folder: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Class names and (path, class) of all images of one part.

    Raises
    ------
    InputError
        If the folder is missing, has no class folders, or one of them has no images.
    """
    try:
        classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise InputError(
            f"There is no folder {folder} ({error.strerror}); images are looked for in "
            f"{folder.parent}/train/CLASS/ and {folder.parent}/val/CLASS/."
        ) from error
    if not classes:
        raise InputError(f"{folder} has no class folders; images are looked for in {folder}/CLASS/.")
    files: list[tuple[str, int]] = []
    empty = []
    for label, name in enumerate(classes):
        before = len(files)
        for path, _, found in sorted(os.walk(folder / name)):
            images = sorted(file for file in found if file.lower().endswith(SUFFIXES))
            files += [(os.path.join(path, file), label) for file in images]
        if len(files) == before:
            empty.append(name)
    if empty:
        others = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise InputError(f"{folder / empty[0]}{others} has no images; add some or remove the folder.")
    return classes, files


def evenly(files: Sequence[tuple[str, int]], count: int, seed: int) -> list[tuple[str, int]]:
    """Draw `count` files at random, as evenly from the classes as their sizes allow."""
    rng = np.random.default_rng(seed)
    by_class: dict[int, list[tuple[str, int]]] = {}
    for index in rng.permutation(len(files)):
        by_class.setdefault(files[index][1], []).append(files[index])
    rounds = max(len(members) for members in by_class.values())
    order = rng.permutation(sorted(by_class))
    ranked = [by_class[c][r] for r in range(rounds) for c in order if r < len(by_class[c])]
    return sorted(ranked[:count])
