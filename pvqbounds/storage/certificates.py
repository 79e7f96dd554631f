"""Certificates in files: numbers beside an entry, arrays under its prefix; one reader for each kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from pvqbounds.relaxations.certificates import Certificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.splits import ENTRIES, MOST_SPLITS, NO_SPLITS, Splits
from pvqbounds.solvers.native.pruning.certificate import SubsetCertificate
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.storage.nodes import Node, StoredArrays

__all__ = ["certificate_fields", "read_certificate"]


def certificate_fields(certificate: Certificate | None) -> dict[str, Any]:
    """Numbers and arrays of a certificate by name; split inequalities as their number and their parts."""
    if certificate is None:
        return {}
    values = {field.name: getattr(certificate, field.name) for field in fields(certificate)}  # type: ignore[arg-type]
    splits = values.pop("splits", NO_SPLITS)
    if len(splits) == 0:
        return values
    parts = {f"splits/{field.name}": getattr(splits, field.name) for field in fields(splits)}
    return values | parts | {"splits": len(splits)}


def read_certificate(entry: Node, arrays: StoredArrays, prefix: str, n: int) -> Certificate | None:
    """The certificate of an entry about n inputs, whose arrays lie under `prefix`; None without one."""
    if entry.values.get("certificate") is None:
        return None
    node = entry.node("certificate")
    return READERS[node.text("kind", tuple(READERS))](node, arrays, prefix, n)


def _dual(node: Node, arrays: StoredArrays, prefix: str, n: int) -> DualCertificate:
    lam, nu = (arrays.take(f"{prefix}/{name}", np.float64, (n,)) for name in ("lam", "nu"))
    return DualCertificate(lam, nu, _splits(node, arrays, prefix, n))


def _first_perspective(node: Node, arrays: StoredArrays, prefix: str, n: int) -> DualCertificate:
    """As version 0.1.0 wrote that of pruning."""
    lam, nu = (arrays.take(f"{prefix}/{name}", np.float64, (n,)) for name in ("diagonal", "nu"))
    return DualCertificate(lam, nu)


def _search(node: Node, arrays: StoredArrays, prefix: str, n: int) -> SearchCertificate:
    dual = _dual(node, arrays, prefix, n)
    return SearchCertificate(dual.lam, dual.nu, node.number("value"), node.count("nodes"), dual.splits)


def _subset(node: Node, arrays: StoredArrays, prefix: str, n: int) -> SubsetCertificate:
    radius = math.inf if node.values.get("radius") is None else node.number("radius")
    return SubsetCertificate(node.number("value"), node.count("nodes"), radius)


READERS: Mapping[str, Callable[[Node, StoredArrays, str, int], Certificate]] = {
    DualCertificate.kind: _dual,
    "box-hull dual": _dual,  # as version 0.1.0 called it for codes
    "perspective dual": _first_perspective,
    SearchCertificate.kind: _search,
    SubsetCertificate.kind: _subset,
}


def _splits(node: Node, arrays: StoredArrays, prefix: str, n: int) -> Splits:
    count = node.optional("splits", node.count)
    if count is None:
        return NO_SPLITS
    if count > MOST_SPLITS * n:
        node.fail("splits", f"at most {MOST_SPLITS * n} inequalities about {n} codes", count)
    return Splits(
        arrays.take(f"{prefix}/splits/index", np.int32, (count, ENTRIES)),
        arrays.take(f"{prefix}/splits/sign", np.int8, (count, ENTRIES)),
        arrays.take(f"{prefix}/splits/low", np.int64, (count,)),
        arrays.take(f"{prefix}/splits/multiplier", np.float64, (count,)),
    )
