"""The best block bound: a primal-dual interior-point method on the dual of the relaxation.

With y = (D, nu, t, tau) the bound of :mod:`pvqbounds.relaxations.blocks` is

    maximise   -tau + sum_g (w_gᵀD_g w_g - 2 nu_gᵀw_g - t_g)
    subject to Z = [tau, nuᵀ; nu, G - D] PSD, and for each group g and each of its supports T
               z_gT = [t_g, cᵀ; c, D_TT] PSD, c = (D_g w_g - nu_g)_T,

a semidefinite program whose matrices are linear in y, with one entry, or a symmetric pair of them, of the
large one for each of tau, nu and D. Its Newton system in the direction of Helmberg, Rendl, Vanderbei and
Wolkowicz (SIAM J. Optim. 6, 1996) is products of entries of X and Z⁻¹; steps are those of Mehrotra (SIAM J.
Optim. 2, 1992): a predictor, and a corrector from what it would leave. Iterates are inside all cones, so that
each of them is a bound; the best in plain evaluation is returned.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, solve_triangular

from pvqbounds.clock import Clock
from pvqbounds.problems import Problem
from pvqbounds.relaxations.blocks import BlockCertificate, couplings_of, has_blocks
from pvqbounds.solvers.native.linalg.lanczos import lanczos
from pvqbounds.solvers.native.linalg.lapack import FLOPS_A_SECOND
from pvqbounds.solvers.native.pruning.perspective_splitting import scaled_gram

__all__ = [
    "BlockBound",
    "block_path",
    "block_seconds",
    "maximise_blocks",
    "takes_blocks",
]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

START = 0.5
"""Share of a diagonal D with G - D singular that the path begins with."""

FIRST = 0.5
"""First mu, in units of the signal over n."""

SLACK_OF_TAU, SLACK_OF_T = 10.0, 3.0
"""What tau and t are above their least values at first, in units of mu."""

TO_THE_BOUNDARY = 0.9
"""Fraction of the way to the boundary."""

REGULAR = 1e-11
"""Share of its diagonal that is added to the Newton system: it is singular at the end."""

LARGEST_SYSTEM = 3000
"""Variables up to which the path is followed: a step takes a third of their cube."""

LANCZOS_STEPS = 25
"""Steps for the distance to the boundary of the large cone; a factorisation checks the outcome."""

LARGEST_PARTS = 2**24
"""Entries of the matrices of all variables up to which it is: 128 MiB, of which a step makes copies."""

STEPS = 25.0
"""Steps of a path, about: 8 to 33."""

WORK_OF_CONE, WORK_OF_PART = 30.0, 6.0
"""Operations of a step over n³, and what the products of small matrices take beyond their operations."""

NO_GAP = 1e-13
"""Gap in units of the signal at which a path ends: a bound of 0 has no relative accuracy."""


IDLE = 1e-9
"""Diagonal of blocks that take no part, in units of the Gram's."""


class Alike(NamedTuple):
    """Groups of one size and budget, which have to lose some of their inputs."""

    inputs: Indices
    """Shape (groups, size)."""
    supports: Indices
    """Shape (supports, kept)."""
    parts: Array
    """The matrices of z_gT, one for each variable of a group: t, then D by its lower triangle, then nu. Shape
    (groups, supports, variables, k, k), k = kept + 1."""
    places: Indices
    """Place of each variable among all, shape (groups, variables)."""

    @property
    def entries(self) -> tuple[Indices, Indices]:
        """Row and column of each entry of the lower triangle of D."""
        return np.tril_indices(self.inputs.shape[1])


@dataclass(frozen=True, eq=False)
class _Program:
    """The semidefinite program of a problem, in units of unit power and unit signal."""

    gram: Array
    weight: Array
    classes: list[Alike]
    first: Indices
    """Row of the entry of Z that each variable of `used` is; tau is at (0, 0)."""
    second: Indices
    """Its column."""
    sign: Array
    """What multiplies the variable there: -1 or 1, halved on the diagonal, where both entries are one."""
    used: Indices
    """The variables that Z has, of all."""
    objective: Array
    """b, shape (variables,); tau is the last one."""

    @property
    def cone(self) -> int:
        """Rows of all matrices together."""
        small = [len(c.inputs) * len(c.supports) * c.parts.shape[-1] for c in self.classes]
        return len(self.gram) + 1 + int(sum(small))

    def large(self, y: Array) -> Array:
        """What the variables add to Z, shape (n + 1, n + 1)."""
        found = np.zeros((len(self.gram) + 1,) * 2)
        values = self.sign * y[self.used]
        found[self.first, self.second] += values
        found[self.second, self.first] += values
        return found

    def small(self, y: Array) -> list[Array]:
        """z_gT of each class."""
        return [np.einsum("gv,gkvij->gkij", y[c.places], c.parts) for c in self.classes]

    def adjoint(self, large: Array, small: list[Array]) -> Array:
        """Inner products of the matrices of the variables with these, shape (variables,)."""
        found = np.zeros(len(self.objective))
        found[self.used] = 2.0 * self.sign * large[self.first, self.second]
        for c, own in zip(self.classes, small, strict=True):
            found[c.places] += np.einsum("gkvij,gkij->gv", c.parts, own)
        return found

    def blocks(self, y: Array) -> Array:
        """D, shape (n, n)."""
        D = np.zeros_like(self.gram)
        for c in self.classes:
            i, j = c.entries
            rows, columns, values = c.inputs[:, i], c.inputs[:, j], y[c.places[:, 1 : 1 + len(i)]]
            D[rows, columns] = D[columns, rows] = values
        return D

    def linear(self, y: Array) -> Array:
        """nu, shape (n,)."""
        nu = np.zeros(len(self.weight))
        for c in self.classes:
            nu[c.inputs] = y[c.places[:, -c.inputs.shape[1] :]]
        return nu


def takes_blocks(problem: Problem) -> bool:
    """Whether a problem has groups of several inputs that the path can take as a whole."""
    if not has_blocks(problem):
        return False
    sizes = _sizes(problem)
    parts = sum(size.supports * size.variables * size.k**2 for size in sizes)
    several = any(0 < most < len(group) and len(group) > 1 for group, most in problem.budgets)
    return several and _variables(sizes) < LARGEST_SYSTEM and parts <= LARGEST_PARTS


def block_seconds(problem: Problem) -> float:
    """What a path takes, about, where :func:`takes_blocks`."""
    sizes, n = _sizes(problem), float(problem.n)
    small = sum(s.supports * (2.0 * (s.variables * s.k) ** 2 + 8.0 * s.variables * s.k**3) for s in sizes)
    system = _variables(sizes) ** 3 / 3.0
    return STEPS * (system + WORK_OF_CONE * n**3 + WORK_OF_PART * small) / FLOPS_A_SECOND


class _Size(NamedTuple):
    """Of a group that has to lose some of its inputs."""

    supports: int
    variables: int
    k: int
    """Rows of the matrix of a support."""


def _sizes(problem: Problem) -> list[_Size]:
    return [
        _Size(math.comb(size, most), 1 + size + size * (size + 1) // 2, most + 1)
        for size, most in ((len(group), most) for group, most in problem.budgets)
        if most < size
    ]


def _variables(sizes: list[_Size]) -> int:
    """tau, and those of each group."""
    return 1 + sum(size.variables for size in sizes)


class BlockBound(NamedTuple):
    """Multipliers of a block bound."""

    certificate: BlockCertificate
    value: float
    """The bound but for what its proof rounds."""
    solved: bool
    """Whether the path reached its tolerance."""


def maximise_blocks(
    problem: Problem, *, tolerance: float = 1e-2, max_iterations: int = 60, clock: Clock | None = None
) -> BlockCertificate | None:
    """:func:`block_path` without saying how far it came."""
    found = block_path(problem, tolerance, max_iterations, clock)
    return None if found is None else found.certificate


@np.errstate(all="ignore")  # an iterate that overflows is thrown away
def block_path(
    problem: Problem, tolerance: float, max_iterations: int = 60, clock: Clock | None = None
) -> BlockBound | None:
    """Find multipliers whose block bound is within about `tolerance` of the best, relatively.

    Parameters
    ----------
    problem
        In units near 1, that :func:`takes_blocks`.

    Returns
    -------
    None where the Gram is singular, or nothing is lost.
    """
    live = np.flatnonzero(problem.shared.live)
    if not len(live):
        return None
    shared = scaled_gram(problem.gram[np.ix_(live, live)])
    power = shared.power
    weight = problem.weight[live] * power
    unit = math.sqrt(max(float(weight @ shared.gram @ weight), 0.0))
    if shared.inverse is None or not unit > 0.0:
        return None
    program = _program(problem, live, shared.gram, weight / unit)
    path = _Path.begin(program, START * shared.start)
    if path is None:
        return None
    best, best_value, solved = path.y, -math.inf, False
    for _ in range(max_iterations):
        if (clock is not None and clock.expired) or not path.advance():
            break
        value = path.value()
        if value > best_value:
            best, best_value = path.y, value
        solved = path.gap + path.missed < max(tolerance * best_value, NO_GAP)
        if solved:
            break
    D, nu = program.blocks(best) * np.outer(power, power), program.linear(best) * power * unit
    return BlockBound(_certificate(problem, live, D, nu), best_value * unit**2, solved)


def _certificate(problem: Problem, live: Indices, D: Array, nu: Array) -> BlockCertificate:
    """The certificate of D, shape (n, n), and nu of the live inputs."""
    whole, linear = np.zeros((problem.n, problem.n)), np.zeros(problem.n)
    whole[np.ix_(live, live)], linear[live] = D, nu
    pairs, lam = couplings_of(problem), np.diagonal(whole).copy()
    # a group that loses nothing takes no part; its block may be anything definite
    idle = (lam == 0.0) & problem.shared.live
    lam[idle] = IDLE * np.diagonal(problem.gram)[idle]
    return BlockCertificate(lam, linear, pairs, whole[pairs.first, pairs.second])


def _program(problem: Problem, live: Indices, gram: Array, weight: Array) -> _Program:
    classes: list[Alike] = []
    first: list[Indices] = []
    second: list[Indices] = []
    sign: list[Array] = []
    used: list[Indices] = []
    objective: list[Array] = []
    count = 0
    for inputs, supports in _classes(problem, live):
        groups, size = inputs.shape
        i, j = np.tril_indices(size)
        variables = 1 + len(i) + size
        places = count + np.arange(groups * variables).reshape(groups, variables)
        count += groups * variables
        w = weight[inputs]
        classes.append(Alike(inputs, supports, _parts(w, supports), places))
        halved = np.where(i == j, 0.5, 1.0)
        first += [1 + inputs[:, i].ravel(), 1 + inputs.ravel()]
        second += [1 + inputs[:, j].ravel(), np.zeros(inputs.size, dtype=np.int64)]
        sign += [np.tile(-halved, groups), np.ones(inputs.size)]
        used += [places[:, 1 : 1 + len(i)].ravel(), places[:, 1 + len(i) :].ravel()]
        own = np.concatenate(
            [np.full((groups, 1), -1.0), w[:, i] * w[:, j] * np.where(i == j, 1.0, 2.0), -2.0 * w], axis=1
        )
        objective.append(own.ravel())
    first.append(np.zeros(1, dtype=np.int64))
    second.append(np.zeros(1, dtype=np.int64))
    sign.append(np.full(1, 0.5))
    used.append(np.full(1, count))
    objective.append(np.full(1, -1.0))
    own_order = [np.concatenate(part) for part in (first, second, used)]
    return _Program(
        gram,
        weight,
        classes,
        own_order[0],
        own_order[1],
        np.concatenate(sign),
        own_order[2],
        np.concatenate(objective),
    )


def _classes(problem: Problem, live: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Groups of one size and budget that have to lose some of their live inputs, and their supports."""
    place = np.full(problem.n, -1)
    place[live] = np.arange(len(live))
    alike: dict[tuple[int, int], list[Indices]] = {}
    for members, most in problem.budgets:
        inside = place[members][place[members] >= 0]
        if most < len(inside):
            alike.setdefault((len(inside), most), []).append(inside)
    for (size, most), groups in sorted(alike.items()):
        yield np.array(groups), np.array(list(itertools.combinations(range(size), most)), dtype=np.int64)


def _parts(w: Array, supports: Indices) -> Array:
    """The matrices of z_gT, one for each variable of a group."""
    groups, size = w.shape
    i, j = np.tril_indices(size)
    kept = supports.shape[1]
    parts = np.zeros((groups, len(supports), 1 + len(i) + size, kept + 1, kept + 1))
    parts[:, :, 0, 0, 0] = 1.0
    entries = np.zeros((len(i), size, size))
    entries[np.arange(len(i)), i, j] = entries[np.arange(len(i)), j, i] = 1.0
    images = np.einsum("aij,gj->gai", entries, w)
    for k, support in enumerate(supports):
        inside = parts[:, k, 1 : 1 + len(i)]
        inside[..., 0, 1:] = inside[..., 1:, 0] = images[:, :, support]
        inside[..., 1:, 1:] = entries[:, support[:, None], support]
        for row, own in enumerate(support, start=1):
            parts[:, k, 1 + len(i) + own, 0, row] = parts[:, k, 1 + len(i) + own, row, 0] = -1.0
    return parts


class _Factored(NamedTuple):
    """A positive definite matrix, its factor and its inverse; or many of one size."""

    matrix: Array
    factor: Array
    """Lower."""
    inverse: Array


def _cholesky(matrices: Array) -> Array:
    factors: Array = np.linalg.cholesky(matrices).astype(np.float64, copy=False)
    return factors


def _inverse(matrices: Array) -> Array:
    inverses: Array = np.linalg.inv(matrices).astype(np.float64, copy=False)
    return inverses


def _large(matrix: Array) -> _Factored | None:
    factor, info = lapack.dpotrf(matrix, lower=1, clean=1)
    if info != 0:
        return None
    lower = lapack.dpotri(factor, lower=1)[0]
    return _Factored(matrix, factor, np.asarray(lower + np.tril(lower, -1).T))


def _small(matrices: list[Array]) -> list[_Factored] | None:
    try:
        return [_Factored(own, _cholesky(own), _inverse(own)) for own in matrices]
    except np.linalg.LinAlgError:
        return None


@dataclass(eq=False)
class _Path:
    """An iterate: y with its matrices Z and z, and the multipliers X and x of these."""

    program: _Program
    y: Array
    Z: _Factored
    z: list[_Factored]
    X: Array
    x: list[Array]

    @classmethod
    def begin(cls, program: _Program, lam: Array) -> _Path | None:
        """The first iterate, from a diagonal D, with nu = 0; None where it is not inside."""
        mu = FIRST / len(lam)
        y = np.zeros(len(program.objective))
        for c in program.classes:
            i, j = c.entries
            diagonal = 1 + np.flatnonzero(i == j)
            y[c.places[:, diagonal]] = lam[c.inputs]
        least = _least(program, y)
        if least is None:
            return None
        y[-1] = least.tau + SLACK_OF_TAU * mu
        for c, t in zip(program.classes, least.t, strict=True):
            y[c.places[:, 0]] = t + SLACK_OF_T * mu
        Z, z = _large(_with_gram(program, program.large(y))), _small(program.small(y))
        if Z is None or z is None:
            return None
        return cls(program, y, Z, z, mu * Z.inverse, [mu * own.inverse for own in z])

    @property
    def gap(self) -> float:
        """<X, Z>, which is the gap once X is feasible."""
        small = sum(float((x * own.matrix).sum()) for x, own in zip(self.x, self.z, strict=True))
        return float((self.X * self.Z.matrix).sum()) + small

    @property
    def missed(self) -> float:
        """What the equations that X misses may be worth, beside the gap."""
        missed = self.program.objective + self.program.adjoint(self.X, self.x)
        return float(np.abs(missed) @ np.abs(self.y))

    def value(self) -> float:
        """The bound of the iterate with the least tau and t."""
        least = _least(self.program, self.y)
        if least is None:
            return -math.inf
        program = self.program
        own = program.objective * self.y
        own[-1] = 0.0
        for c in program.classes:
            own[c.places[:, 0]] = 0.0
        return float(own.sum()) - least.tau - sum(float(t.sum()) for t in least.t)

    def advance(self) -> bool:
        """A predictor and a corrector; False where the arithmetic of a step breaks down."""
        try:
            return self._advance()
        except np.linalg.LinAlgError:  # where numbers that are not finite have no eigenvalues
            return False

    def _advance(self) -> bool:
        system = _System.of(self)
        if system is None:
            return False
        mu = self.gap / self.program.cone
        predicted = self._move(system.solve(self.program.objective), 0.0, None)
        ahead = [min(1.0, step) for step in self._reach(predicted)]
        left = self._gap_after(predicted, ahead) / self.program.cone
        centring = min(1.0, max(left / mu, 1e-4)) ** 2
        curved = self._curvature(predicted)
        inverse = self.program.adjoint(self.Z.inverse, [own.inverse for own in self.z])
        right = self.program.objective + centring * mu * inverse - self.program.adjoint(*curved)
        move = self._move(system.solve(right), centring * mu, curved)
        return self._take(move, [min(1.0, TO_THE_BOUNDARY * step) for step in self._reach(move)])

    def _move(self, dy: Array, mu: float, curved: tuple[Array, list[Array]] | None) -> _Move:
        """The move that belongs to a step of y towards the central path's point of this mu."""
        dZ, dz = self.program.large(dy), self.program.small(dy)
        dX = mu * self.Z.inverse - self.X - _symmetric(self.X @ dZ @ self.Z.inverse)
        dx = [
            mu * own.inverse - x - _symmetric(x @ d @ own.inverse)
            for x, own, d in zip(self.x, self.z, dz, strict=True)
        ]
        if curved is not None:
            dX -= curved[0]
            dx = [d - c for d, c in zip(dx, curved[1], strict=True)]
        return _Move(dy, dZ, dz, dX, dx)

    def _curvature(self, move: _Move) -> tuple[Array, list[Array]]:
        """What the product of the steps adds to XZ, times Z⁻¹."""
        small = zip(move.x, move.z, self.z, strict=True)
        return (
            _symmetric(move.X @ move.Z @ self.Z.inverse),
            [_symmetric(dx @ dz @ own.inverse) for dx, dz, own in small],
        )

    def _gap_after(self, move: _Move, steps: list[float]) -> float:
        primal, dual = steps
        gap = float(((self.X + primal * move.X) * (self.Z.matrix + dual * move.Z)).sum())
        for x, dx, own, dz in zip(self.x, move.x, self.z, move.z, strict=True):
            gap += float(((x + primal * dx) * (own.matrix + dual * dz)).sum())
        return max(gap, 0.0)

    def _reach(self, move: _Move) -> list[float]:
        """The longest steps of X and of Z that stay in all cones."""
        X, x = lapack.dpotrf(self.X, lower=1, clean=1)[0], [_cholesky(own) for own in self.x]
        primal = [_reach_of_large(X, move.X), *map(_reach_of_small, x, move.x)]
        factors = [own.factor for own in self.z]
        dual = [_reach_of_large(self.Z.factor, move.Z), *map(_reach_of_small, factors, move.z)]
        return [min(primal), min(dual)]

    def _take(self, move: _Move, steps: list[float]) -> bool:
        """Go along a move, less far where rounding leaves a cone; False where there is no way."""
        primal, dual = steps
        for _ in range(30):
            y = self.y + dual * move.y
            Z, z = _large(_with_gram(self.program, self.program.large(y))), _small(self.program.small(y))
            if Z is not None and z is not None:
                break
            dual *= 0.8
        else:
            return False
        for _ in range(30):
            X = self.X + primal * move.X
            x = [own + primal * d for own, d in zip(self.x, move.x, strict=True)]
            if lapack.dpotrf(X, lower=1, clean=0)[1] == 0 and _small(x) is not None:
                break
            primal *= 0.8
        else:
            return False
        self.y, self.Z, self.z, self.X, self.x = y, Z, z, X, x
        return True


class _Move(NamedTuple):
    """A step of each part of an iterate."""

    y: Array
    Z: Array
    z: list[Array]
    X: Array
    x: list[Array]


class _System(NamedTuple):
    """The Newton system of an iterate, scaled to a unit diagonal."""

    scale: Array
    matrix: Array
    factor: Array

    @classmethod
    def of(cls, path: _Path) -> _System | None:
        program = path.program
        matrix = np.zeros((len(program.objective),) * 2)
        X, inverse = (
            np.ascontiguousarray(path.X),
            np.ascontiguousarray(path.Z.inverse),
        )
        _add_products(matrix, X, inverse, program.first, program.second, program.sign, program.used)
        for c, x, own in zip(program.classes, path.x, path.z, strict=True):
            left = np.einsum("gkij,gkvjl->gkvil", x, c.parts)
            right = np.einsum("gkvij,gkjl->gkvil", c.parts, own.inverse)
            local = np.einsum("gkuij,gkvij->guv", left, right, optimize=True)
            matrix[c.places[:, :, None], c.places[:, None, :]] += _symmetric(local)
        scale = 1.0 / np.sqrt(np.diagonal(matrix))
        matrix *= scale
        matrix *= scale[:, None]
        matrix[np.diag_indices(len(scale))] += REGULAR
        factor, info = lapack.dpotrf(matrix, lower=1, clean=0)
        return cls(scale, matrix, factor) if info == 0 else None

    def solve(self, right: Array) -> Array:
        """The solution, refined once."""
        scaled = right * self.scale
        found = lapack.dpotrs(self.factor, scaled, lower=1)[0]
        found += lapack.dpotrs(self.factor, scaled - self.matrix @ found, lower=1)[0]
        solution: Array = found * self.scale
        return solution


@numba.njit(cache=True, nogil=True)
def _add_products(  # type: ignore[no-untyped-def]
    matrix, X, inverse, first, second, sign, used
):  # pragma: no cover
    """Add <A_k, X A_l Z⁻¹> for the symmetric pairs of entries A_k, A_l of the large matrix."""
    for a in range(len(first)):
        i, j = first[a], second[a]
        row = used[a]
        for b in range(a + 1):
            k, m = first[b], second[b]
            value = (
                X[j, k] * inverse[m, i]
                + X[j, m] * inverse[k, i]
                + X[i, k] * inverse[m, j]
                + X[i, m] * inverse[k, j]
            )
            value *= sign[a] * sign[b]
            matrix[row, used[b]] += value
            if a != b:
                matrix[used[b], row] += value


class _Least(NamedTuple):
    tau: float
    t: list[Array]


def _least(program: _Program, y: Array) -> _Least | None:
    """The least tau and t of the other variables; None outside."""
    D, nu = program.blocks(y), program.linear(y)
    factor, info = lapack.dpotrf(program.gram - D, lower=1, clean=0)
    if info != 0:
        return None
    half = solve_triangular(factor, nu, lower=True, check_finite=False)
    t = []
    for c in program.classes:
        w, linear = program.weight[c.inputs], nu[c.inputs]
        block = D[c.inputs[:, :, None], c.inputs[:, None, :]]
        slope = (block @ w[..., None])[..., 0] - linear
        inside, right = block[:, c.supports[:, :, None], c.supports[:, None, :]], slope[:, c.supports]
        if c.supports.shape[1] == 0:
            t.append(np.zeros(len(w)))
            continue
        try:
            _cholesky(inside)
        except np.linalg.LinAlgError:
            return None
        t.append((np.linalg.solve(inside, right[..., None])[..., 0] * right).sum(axis=-1).max(axis=-1))
    return _Least(float(half @ half), t)


def _with_gram(program: _Program, large: Array) -> Array:
    large[1:, 1:] += program.gram
    return large


def _symmetric(matrix: Array) -> Array:
    symmetric: Array = 0.5 * (matrix + np.swapaxes(matrix, -1, -2))
    return symmetric


def _reach_of_small(factor: Array, change: Array) -> float:
    """The longest step along `change` in which all of many matrices stay positive definite."""
    inverse = _inverse(factor)
    least = float(np.linalg.eigvalsh(inverse @ change @ np.swapaxes(inverse, -1, -2))[..., 0].min())
    return math.inf if least >= 0.0 else -1.0 / least


def _reach_of_large(factor: Array, change: Array) -> float:
    """The same of one large matrix, from below, by Lanczos steps."""
    half = solve_triangular(factor, change, lower=True, check_finite=False)
    scaled = solve_triangular(factor, half.T, lower=True, check_finite=False)
    least = _least_eigenvalue(_symmetric(scaled))
    return math.inf if least >= 0.0 else -1.0 / least


def _least_eigenvalue(matrix: Array) -> float:
    """A lower estimate of the least eigenvalue: a Ritz value less its residual."""
    alpha, beta = lanczos(lambda x: matrix @ x, len(matrix), LANCZOS_STEPS)
    values, vectors = np.linalg.eigh(np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1))
    return float(values[0]) - float(beta[-1]) * abs(float(vectors[-1, 0]))
