"""Images as models are tested on ImageNet: decoded with Pillow, resized, the centre cropped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pvqbounds.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MEAN", "STD", "ToTensor", "Transform", "centre_crop", "decode", "resampling"]

Transform = Callable[["Image"], Tensor]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the red, green and blue values of ImageNet, between 0 and 1."""

Numbers = tuple[float, ...]


def decode(path: str) -> Image:
    """Read an image as red, green and blue, 0 to 255 each.

    Grey levels of 16 bits, and floats from 0 to 1, are scaled to that range.

    Raises
    ------
    ValueError
        If it cannot be decoded, or holds numbers whose black and white are not known; the text says
        which.
    """
    image = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken metadata of a good image
            with image.open(path) as opened:
                decoded: Image = _in_bytes(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, ArithmeticError, image.DecompressionBombError) as error:
        text = getattr(error, "strerror", None) or str(error).replace(f" '{path}'", "")
        raise ValueError(" ".join(text.split()) or type(error).__name__) from error
    return decoded


def _in_bytes(image: Image) -> Image:
    """The image with levels from 0 to 255; conversion by Pillow alone would clip larger numbers to white."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image
    levels = np.asarray(image).astype(np.float64)
    white = _white(image)
    if white is None or not np.isfinite(levels).all() or levels.min() < 0.0 or levels.max() > white:
        expected = "0 to 1" if image.mode == "F" else "of 16 bits a pixel"
        raise ValueError(f"it holds numbers that are not {expected}: save it with 8 bits a channel")
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        levels = white - levels
    grey: Image = _pillow().fromarray(np.rint(levels / (white / 255.0)).astype(np.uint8))
    return grey


PHOTOMETRIC, BITS_PER_SAMPLE, SAMPLE_FORMAT = 262, 258, 339
WHITE_IS_ZERO, UNSIGNED = 0, 1
"""Tags of TIFF files and their values."""


def _white(image: Image) -> float | None:
    """The level of white, None where the file does not tell."""
    if image.mode == "F":
        return 1.0
    if image.format in ("PNG", "PPM"):  # of 16 bits; Pillow brings others to that
        return 65535.0
    tags = getattr(image, "tag_v2", {})
    bits, kind = (tags.get(tag, (1,))[0] for tag in (BITS_PER_SAMPLE, SAMPLE_FORMAT))
    return 2.0**bits - 1.0 if image.format == "TIFF" and kind == UNSIGNED and bits in (12, 16) else None


class ToTensor:
    """Values from 0 to 1, then normalised; (3, height, width)."""

    def __init__(self, mean: Numbers, std: Numbers) -> None:
        self._mean = torch.tensor(mean).view(3, 1, 1)
        self._std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, image: Image) -> Tensor:
        """Make a tensor of an image."""
        values = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).float().div(255.0)
        return (values - self._mean) / self._std


class _CentreCrop:
    def __init__(self, size: int, resampling: Any, to_tensor: Transform) -> None:
        self._size, self._resampling, self._to_tensor = size, resampling, to_tensor

    def __call__(self, image: Image) -> Tensor:
        width, height = image.size
        side = min(width, height) * 7 / 8
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return self._to_tensor(image.resize((self._size, self._size), self._resampling, box=box))


def centre_crop(size: int, interpolation: str, mean: Numbers = MEAN, std: Numbers = STD) -> Transform:
    """Centre crop."""
    return _CentreCrop(size, resampling(interpolation), ToTensor(mean, std))


def resampling(name: str) -> Any:
    """Pillow's filter of that name."""
    return _pillow().Resampling[name.upper()]


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            f"Reading images needs Pillow ({error}); install it with `pip install 'pvqbounds[train]'`."
        ) from error
    return Image
