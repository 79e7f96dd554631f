"""Packages of extras that are not installed, said in a sentence."""

from __future__ import annotations

__all__ = ["what_is_missing"]

EXTRAS = {
    "PIL": "train",
    "distributed": "dask",
    "gguf": "checkpoints",
    "jinja2": "report",
    "lightning_fabric": "train",
    "matplotlib": "plot",
    "pyarrow": "parquet",
    "safetensors": "nn",
    "sklearn": "train",
    "tokenizers": "hf",
    "torch": "nn",
    "transformers": "hf",
}
"""The extra of this package that brings a module."""


def what_is_missing(error: ModuleNotFoundError) -> str | None:
    """What to install for a command that could not import something.

    Returns
    -------
    str or None
        None where no extra brings it: then it is a fault, and no matter of what is installed.
    """
    module = (error.name or "").split(".")[0]
    if module not in EXTRAS:
        return None
    return f"This needs {module}, which is not installed: pip install 'pvqbounds[{EXTRAS[module]}]'."
