"""Compressed weights as other tools store them, read without running any code.

A checkpoint (:func:`open_checkpoint`) is a file or a folder of them; :func:`read_layer` finds a layer in it
and the format that its tensors are in, and gives the weights together with what they were allowed to be:
a grid for each weight, and a support rule. One file of this folder reads one format; :data:`FORMATS` lists
them.
"""

from __future__ import annotations

from pvqbounds.storage.checkpoints.base import Layout
from pvqbounds.storage.checkpoints.claims import LOGS, claimed_loss, read_claims
from pvqbounds.storage.checkpoints.files import Checkpoint, open_checkpoint
from pvqbounds.storage.checkpoints.layer import CompressedLayer
from pvqbounds.storage.checkpoints.lookup import FORMATS, layers_in, read_layer

__all__ = [
    "FORMATS",
    "LOGS",
    "Checkpoint",
    "CompressedLayer",
    "Layout",
    "claimed_loss",
    "layers_in",
    "open_checkpoint",
    "read_claims",
    "read_layer",
]
