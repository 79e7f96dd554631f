"""Certificates in files: numbers beside an entry, arrays under its prefix; one reader for each kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.relaxations.blocks import LARGEST_GROUP, BlockCertificate, Couplings
from pvqbounds.relaxations.cases import Case, CasesCertificate
from pvqbounds.relaxations.certificates import Certificate, LeafCertificate
from pvqbounds.relaxations.dual import DualCertificate
from pvqbounds.relaxations.layer_scales import LayerScales
from pvqbounds.relaxations.scales import MOST_SCALES, ScalesCertificate
from pvqbounds.relaxations.slabs import MOST_LEAVES, Cover
from pvqbounds.relaxations.splits import ENTRIES, MOST_SPLITS, NO_SPLITS, Splits
from pvqbounds.relaxations.zero_points import MOST_BOXES, ZeroPointsCertificate
from pvqbounds.solvers.native.pruning.certificate import CurveCertificate, SubsetCertificate
from pvqbounds.solvers.native.quantization.certificate import SearchCertificate
from pvqbounds.storage.nodes import Arrays, Document, Node, StoredArrays
from pvqbounds.storage.text import finite

Reader = Callable[[Node, StoredArrays, str, int], Certificate]
"""From a node, arrays, the prefix of its own ones, and the number of inputs."""

__all__ = [
    "certificate_arrays",
    "certificate_document",
    "certificate_fields",
    "layer_scales_arrays",
    "layer_scales_document",
    "read_certificate",
    "read_layer_scales",
]


def certificate_fields(certificate: Certificate | None) -> dict[str, Any]:
    """Numbers and arrays of a certificate by name; split inequalities as their number and their parts."""
    if certificate is None:
        return {}
    return FIELDS.get(certificate.kind, _own_fields)(certificate)


def _own_fields(certificate: Any) -> dict[str, Any]:
    """Those of a certificate without parts but split inequalities, as it has them."""
    values = {field.name: getattr(certificate, field.name) for field in fields(certificate)}
    splits = values.pop("splits", NO_SPLITS)
    if len(splits) == 0:
        return values
    return values | _fields_of_splits([splits]) | {"splits": len(splits)}


def _fields_of_splits(lists: Sequence[Splits]) -> dict[str, Any]:
    """The parts of lists of split inequalities, one after the other; those of steps have no cells to tell."""
    found = {}
    for field in fields(Splits):
        part = np.concatenate([getattr(splits, field.name) for splits in lists])
        if field.name != "cell" or part.any():
            found[f"splits/{field.name}"] = part
    return found


def certificate_document(certificate: Certificate | None) -> Document | None:
    """What the document of a result says of a certificate: its kind, and all of it that is no array."""
    if certificate is None:
        return None
    own = {name: value for name, value in certificate_fields(certificate).items() if not _is_array(value)}
    return {"kind": certificate.kind} | {
        name: value if isinstance(value, list) else finite(value) for name, value in own.items()
    }


def certificate_arrays(certificate: Certificate | None) -> Arrays:
    """The arrays of a certificate by name."""
    return {name: value for name, value in certificate_fields(certificate).items() if _is_array(value)}


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray)


def read_certificate(entry: Node, arrays: StoredArrays, prefix: str, n: int) -> Certificate | None:
    """The certificate of an entry about n inputs, whose arrays lie under `prefix`; None without one."""
    if entry.values.get("certificate") is None:
        return None
    node = entry.node("certificate")
    return _read(node, arrays, prefix, n, READERS)


def _read(
    node: Node, arrays: StoredArrays, prefix: str, n: int, readers: Mapping[str, Reader]
) -> Certificate:
    return readers[node.text("kind", tuple(readers))](node, arrays, prefix, n)


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


def _blocks(node: Node, arrays: StoredArrays, prefix: str, n: int) -> BlockCertificate:
    count = node.count("pairs")
    if count > LARGEST_GROUP * n:
        node.fail("pairs", f"at most {LARGEST_GROUP * n} of {n} inputs", count)

    def take(name: str, kind: type[np.generic], length: int) -> NDArray[Any]:
        return arrays.take(f"{prefix}/{name}", kind, (length,))

    pairs = Couplings(*(take(f"pairs/{name}", np.int32, count) for name in Couplings._fields))
    lam, nu = take("lam", np.float64, n), take("nu", np.float64, n)
    return BlockCertificate(lam, nu, pairs, take("coupling", np.float64, count))


def _fields_of_blocks(certificate: BlockCertificate) -> dict[str, Any]:
    """Its multipliers, and its pairs as their number and their parts."""
    parts = {f"pairs/{name}": part for name, part in zip(Couplings._fields, certificate.pairs, strict=True)}
    own = {"lam": certificate.lam, "nu": certificate.nu, "coupling": certificate.coupling}
    return own | parts | {"pairs": len(certificate.coupling)}


def _subset(node: Node, arrays: StoredArrays, prefix: str, n: int) -> SubsetCertificate:
    radius = math.inf if node.values.get("radius") is None else node.number("radius")
    return SubsetCertificate(node.number("value"), node.count("nodes"), radius)


def _curve(node: Node, arrays: StoredArrays, prefix: str, n: int) -> CurveCertificate:
    return CurveCertificate(
        arrays.take(f"{prefix}/values", np.float64, (n + 1,)),
        arrays.take(f"{prefix}/nodes", np.int64, (n + 1,)),
    )


def _fields_of_cases(certificate: CasesCertificate) -> dict[str, Any]:
    """A cover and the rows of its leaves; the splits of all leaves in one list, with how many each has."""
    cover, proofs = certificate.cover, [case.proof for case in certificate.cases]
    splits = [proof.splits for proof in proofs]
    searched = [proof if isinstance(proof, SearchCertificate) else None for proof in proofs]
    found: dict[str, Any] = {
        "value": certificate.value,
        "leaves": cover.leaves,
        "directions": len(cover.direction),
        "direction": cover.direction,
        "axis": cover.axis,
        "cut": cover.cut,
        "chord": np.stack([case.chord for case in certificate.cases]),
        "push": np.stack([case.push for case in certificate.cases]),
        "lam": np.stack([proof.lam for proof in proofs]),
        "nu": np.stack([proof.nu for proof in proofs]),
        "searched": np.array([0.0 if search is None else search.value for search in searched]),
        "nodes": np.array([-1 if search is None else search.nodes for search in searched], np.int64),
    }
    if any(len(part) for part in splits):
        found["splits"] = sum(len(part) for part in splits)
        found["splits/count"] = np.array([len(part) for part in splits], np.int64)
        found |= _fields_of_splits(splits)
    return found


def _cases(node: Node, arrays: StoredArrays, prefix: str, n: int) -> CasesCertificate:
    leaves, m = node.count("leaves"), node.count("directions")
    if not 1 <= leaves <= MOST_LEAVES:
        node.fail("leaves", f"1 to {MOST_LEAVES}", leaves)

    def take(name: str, kind: type[np.generic], *shape: int) -> NDArray[Any]:
        return arrays.take(f"{prefix}/{name}", kind, shape)

    nodes = 2 * leaves - 1
    cover = Cover(
        take("direction", np.float64, m, n), take("axis", np.int64, nodes), take("cut", np.float64, nodes)
    )
    chord, push = take("chord", np.float64, leaves, m), take("push", np.float64, leaves, m)
    lam, nu = take("lam", np.float64, leaves, n), take("nu", np.float64, leaves, n)
    value, visited = take("searched", np.float64, leaves), take("nodes", np.int64, leaves)
    splits = _splits_of_leaves(node, arrays, prefix, n, leaves)
    cases = []
    for i in range(leaves):
        proof: LeafCertificate = DualCertificate(lam[i], nu[i], splits[i])
        if visited[i] >= 0:
            proof = SearchCertificate(lam[i], nu[i], float(value[i]), int(visited[i]), splits[i])
        cases.append(Case(chord[i], push[i], proof))
    return CasesCertificate(cover, tuple(cases), node.number("value"))


def _fields_of_scales(certificate: ScalesCertificate) -> dict[str, Any]:
    """Scales and their bounds, and what proves each of these, as it would be by itself."""
    found = {"value": certificate.value, "scales": certificate.scales, "bounds": certificate.bounds}
    return found | _fields_of_proofs(certificate.proofs)


def _fields_of_zero_points(certificate: ZeroPointsCertificate) -> dict[str, Any]:
    """Boxes, and what proves the bound of each, as it would be by itself."""
    found = {"value": certificate.value, "lows": certificate.lows, "highs": certificate.highs}
    return found | _fields_of_proofs(certificate.proofs)


def _fields_of_proofs(proofs: Sequence[Certificate]) -> dict[str, Any]:
    found: dict[str, Any] = {"proofs": [certificate_document(proof) for proof in proofs]}
    for i, proof in enumerate(proofs):
        found |= {f"proofs/{i}/{name}": array for name, array in certificate_arrays(proof).items()}
    return found


def _scales(node: Node, arrays: StoredArrays, prefix: str, n: int) -> ScalesCertificate:
    proofs = node.nodes("proofs")
    if len(proofs) > MOST_SCALES:
        node.fail("proofs", f"at most {MOST_SCALES}", len(proofs))
    scales, bounds = (
        arrays.take(f"{prefix}/{name}", np.float64, (len(proofs),)) for name in ("scales", "bounds")
    )
    read = [_read(proof, arrays, f"{prefix}/proofs/{i}", n, AT_ONE_SCALE) for i, proof in enumerate(proofs)]
    return ScalesCertificate(scales, bounds, tuple(read), node.number("value"))


def _zero_points(node: Node, arrays: StoredArrays, prefix: str, n: int) -> ZeroPointsCertificate:
    proofs = node.nodes("proofs")
    if len(proofs) > MOST_BOXES:
        node.fail("proofs", f"at most {MOST_BOXES}", len(proofs))
    lows, highs = (arrays.take(f"{prefix}/{name}", np.int64, (len(proofs),)) for name in ("lows", "highs"))
    read = []
    for i, proof in enumerate(proofs):
        proof.text("kind", (ScalesCertificate.kind,))
        read.append(_scales(proof, arrays, f"{prefix}/proofs/{i}", n))
    return ZeroPointsCertificate(lows, highs, tuple(read), node.number("value"))


def layer_scales_document(certificate: LayerScales) -> Document:
    """What the document says of a certificate for every scale of a layer: all of it that is no array."""
    proofs = [[certificate_document(proof) for proof in row] for row in certificate.proofs]
    return {"value": certificate.value, "proofs": [{"channels": row} for row in proofs]}


def layer_scales_arrays(certificate: LayerScales) -> Arrays:
    """Its arrays by name."""
    found: Arrays = {"scales": certificate.scales, "bounds": certificate.bounds}
    for i, row in enumerate(certificate.proofs):
        for c, proof in enumerate(row):
            found |= {f"{i}/{c}/{name}": array for name, array in certificate_arrays(proof).items()}
    return found


def read_layer_scales(node: Node, arrays: StoredArrays, prefix: str, sizes: Sequence[int]) -> LayerScales:
    """The certificate for every scale of channels with so many inputs each."""
    rows = [row.nodes("channels") for row in node.nodes("proofs")]
    if len(rows) > MOST_SCALES or any(len(row) != len(sizes) for row in rows):
        node.fail("proofs", f"at most {MOST_SCALES} rows of {len(sizes)} channels", len(rows))
    scales = arrays.take(f"{prefix}/scales", np.float64, (len(rows),))
    bounds = arrays.take(f"{prefix}/bounds", np.float64, (len(rows), len(sizes)))
    proofs = tuple(
        tuple(
            _read(proof, arrays, f"{prefix}/{i}/{c}", sizes[c], AT_ONE_SCALE) for c, proof in enumerate(row)
        )
        for i, row in enumerate(rows)
    )
    return LayerScales(scales, bounds, proofs, node.number("value"))


def _splits_of_leaves(node: Node, arrays: StoredArrays, prefix: str, n: int, leaves: int) -> list[Splits]:
    """The split inequalities of each leaf."""
    total = _splits(node, arrays, prefix, n * leaves)
    if len(total) == 0:
        return [NO_SPLITS] * leaves
    counts = arrays.take(f"{prefix}/splits/count", np.int64, (leaves,))
    if (counts < 0).any() or (counts > len(total)).any() or counts.sum() != len(total):
        node.fail("splits", "as many inequalities as its leaves have together", len(total))
    ends = np.cumsum(counts)
    return [total.part(end - count, end) for count, end in zip(counts.tolist(), ends.tolist(), strict=True)]


def _splits(node: Node, arrays: StoredArrays, prefix: str, n: int) -> Splits:
    count = node.optional("splits", node.count)
    if count is None:
        return NO_SPLITS
    if count > MOST_SPLITS * n:
        node.fail("splits", f"at most {MOST_SPLITS * n} inequalities about {n} codes", count)
    splits = Splits.of_codes(
        arrays.take(f"{prefix}/splits/index", np.int32, (count, ENTRIES)),
        arrays.take(f"{prefix}/splits/sign", np.int8, (count, ENTRIES)),
        arrays.take(f"{prefix}/splits/low", np.int64, (count,)),
        arrays.take(f"{prefix}/splits/multiplier", np.float64, (count,)),
    )
    name = f"{prefix}/splits/cell"
    return replace(splits, cell=arrays.take(name, np.int32, (count, ENTRIES))) if arrays.has(name) else splits


FIELDS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    BlockCertificate.kind: _fields_of_blocks,
    CasesCertificate.kind: _fields_of_cases,
    ScalesCertificate.kind: _fields_of_scales,
    ZeroPointsCertificate.kind: _fields_of_zero_points,
}
"""Numbers and arrays of the certificates that are made of others, by kind."""

AT_ONE_SCALE: Mapping[str, Reader] = {
    DualCertificate.kind: _dual,
    "box-hull dual": _dual,  # as version 0.1.0 called it for codes
    "perspective dual": _first_perspective,
    BlockCertificate.kind: _blocks,
    SearchCertificate.kind: _search,
    SubsetCertificate.kind: _subset,
    CurveCertificate.kind: _curve,
    CasesCertificate.kind: _cases,
}
"""Readers of certificates about one scale, or about none, by kind."""

READERS: Mapping[str, Reader] = {
    **AT_ONE_SCALE,
    ScalesCertificate.kind: _scales,
    ZeroPointsCertificate.kind: _zero_points,
}
"""Readers of all that a problem may have."""
