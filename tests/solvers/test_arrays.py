"""The compiled kernels of the interior point against the same in terms of NumPy, and LAPACK."""

from __future__ import annotations

import numpy as np
import pytest

from pvqbounds.solvers.native.linalg import lapack
from pvqbounds.solvers.native.linalg.arrays import NUMPY, Arrays

RNG = np.random.default_rng(0)
COUNT, N, M = 3, 40, 5


def plain(name: str, *arguments: object) -> object:
    """The definition that PyTorch runs, on NumPy arrays."""
    return getattr(Arrays, name)(NUMPY, *arguments)


def symmetric() -> np.ndarray:
    matrix = RNG.standard_normal((COUNT, N, N))
    return matrix + matrix.swapaxes(1, 2)


def definite() -> np.ndarray:
    matrix = RNG.standard_normal((COUNT, N, 2 * N))
    return matrix @ matrix.swapaxes(1, 2) / N


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("minus_diagonal", (symmetric()[0], RNG.standard_normal((COUNT, N)))),
        ("sum_lower", (symmetric(), RNG.random(COUNT), symmetric())),
        (
            "newton_matrix",
            (symmetric(), symmetric(), symmetric(), RNG.random((COUNT, N)), RNG.random((COUNT, N))),
        ),
    ],
)
def test_lower_triangles_are_the_definition_s(name: str, arguments: tuple[np.ndarray, ...]) -> None:
    found, wanted = getattr(NUMPY, name)(*arguments), plain(name, *arguments)
    assert np.tril(found) == pytest.approx(np.tril(wanted), rel=1e-13, abs=1e-13)


def test_a_covariance_step_is_the_definition_s() -> None:
    arguments = (RNG.standard_normal((COUNT, N, N)), RNG.random(COUNT), symmetric(), symmetric())
    found = NUMPY.covariance_step(*arguments)
    assert found == pytest.approx(plain("covariance_step", *arguments), rel=1e-13, abs=1e-13)
    assert (found == found.swapaxes(1, 2)).all()


def test_polygons_are_the_definition_s() -> None:
    ratio, features = RNG.random((COUNT, N, M)), RNG.standard_normal((COUNT, 2, N, M))
    blocks = NUMPY.polygon_blocks(ratio, features)
    for found, wanted in zip(blocks, plain("polygon_blocks", ratio, features), strict=True):
        assert found == pytest.approx(wanted, rel=1e-10)
    mean, total = blocks[3:]
    target, weight = RNG.random((COUNT, N, M)), RNG.random((COUNT, N, M))
    targets = NUMPY.polygon_targets(target, features, mean)
    for found, wanted in zip(targets, plain("polygon_targets", target, features, mean), strict=True):
        assert found == pytest.approx(wanted, rel=1e-10, abs=1e-12)
    lam, mu = RNG.standard_normal((2, COUNT, N))
    arguments = (lam, mu, features, ratio, total, targets[1], target, weight)
    step = NUMPY.polygon_step(*arguments)
    for found, wanted in zip(step, plain("polygon_step", *arguments), strict=True):
        assert found == pytest.approx(wanted, rel=1e-10, abs=1e-12)
    # the weights of each polygon sum to 1 after the step, as they are to
    assert (weight + step[2]).sum(-1) == pytest.approx(np.ones((COUNT, N)), rel=1e-9)


def test_factors_inverses_and_solutions() -> None:
    matrix = definite()
    right = RNG.standard_normal((COUNT, N))
    lower = np.tril(matrix)  # what stands above is not read
    factor, good = NUMPY.cholesky(lower.copy())
    assert good.all()
    assert np.tril(factor) == pytest.approx(np.linalg.cholesky(matrix), rel=1e-10)
    wanted = np.linalg.solve(matrix, right[..., None])[..., 0]
    assert NUMPY.solve(factor, right.copy()) == pytest.approx(wanted, rel=1e-9)
    assert NUMPY.inverse(factor) == pytest.approx(np.linalg.inv(matrix), rel=1e-9, abs=1e-12)


def test_a_matrix_that_is_not_definite_is_told_from_its_neighbours() -> None:
    matrix = definite()
    matrix[1, 3, 3] = -1.0
    assert NUMPY.cholesky(matrix)[1].tolist() == [True, False, True]


@pytest.mark.parametrize("n", [1, 7, 40])
def test_lapack_in_compiled_loops(n: int) -> None:
    rng = np.random.default_rng(n)
    features = rng.standard_normal((2 * n, n))
    matrix, right = features.T @ features, rng.standard_normal(n)
    numbers, factor, solution = lapack.numbers_for(n), matrix.copy(), right.copy()
    assert lapack.factorise(factor, numbers, lapack.ROUTINES)
    assert np.tril(factor) == pytest.approx(np.linalg.cholesky(matrix), rel=1e-10)
    assert lapack.solve(factor, solution, numbers, lapack.ROUTINES)
    assert matrix @ solution == pytest.approx(right, abs=1e-8)
    assert lapack.invert(factor, numbers, lapack.ROUTINES)
    assert np.tril(factor) == pytest.approx(np.tril(np.linalg.inv(matrix)), rel=1e-8, abs=1e-10)
    assert not lapack.factorise(-matrix, numbers, lapack.ROUTINES)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda m: m.astype(np.float32), lambda m: m[::2, ::2]])
def test_lapack_refuses_other_bytes_than_it_reads(change) -> None:
    with pytest.raises(TypeError):
        lapack.factorise(change(np.eye(6)), lapack.numbers_for(6), lapack.ROUTINES)
