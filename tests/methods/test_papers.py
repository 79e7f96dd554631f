"""Each method against the plain statement of its paper: slow, one channel, nothing shared."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

import pvqbounds as pvq
from pvqbounds import methods
from pvqbounds.errors import InputError
from pvqbounds.problems.values import Levels, Steps

LEVELS = np.array([-1.7, -0.9, -0.5, -0.1, 0.0, 0.2, 0.6, 1.1, 1.9])
SEEDS = range(6)


def gram_of(n: int, seed: int, positions: int = 300) -> pvq.Gram:
    rng = np.random.default_rng(seed)
    inputs = np.maximum(rng.standard_normal((positions, n)) @ rng.standard_normal((n, n)), 0.0)
    return pvq.Gram(inputs.T @ inputs / positions)


def coded(n: int, seed: int, **rule: Any) -> list[Any]:
    """Channels of one Gram: one step, steps of their own, and levels."""
    gram, rng = gram_of(n, seed), np.random.default_rng(100 + seed)
    weights = rng.standard_normal((6, n))
    steps, low = rng.uniform(0.2, 0.5, n), rng.integers(-5, -2, n)
    return [
        *(pvq.IntegerLeastSquares(gram, w, 0.3, -4, 3, **rule) for w in weights[:2]),
        *(pvq.IntegerLeastSquares(gram, w, steps, low, low + 7, **rule) for w in weights[2:4]),
        *(pvq.CodebookLeastSquares(gram, w, LEVELS, **rule) for w in weights[4:]),
    ]


def pruned(n: int, seed: int, **rule: Any) -> list[Any]:
    gram, rng = gram_of(n, seed), np.random.default_rng(100 + seed)
    return [pvq.SparseLeastSquares(gram, rng.standard_normal(n), **rule) for _ in range(3)]


def nearest(problem: Any, i: int, point: float) -> float:
    """The value of input i next to a point."""
    if isinstance(problem.values, Steps):
        step, low, high = problem.step[i], problem.low[i], problem.high[i]
        return float(step * np.rint(np.clip(point / step, low, high)))
    assert isinstance(problem.values, Levels)
    return float(LEVELS[np.abs(LEVELS - point).argmin()])


def propose(name: str, problems: list[Any]) -> list[np.ndarray]:
    """What a method proposes, as weights."""
    points = methods.proposals([name], problems)[name]
    return [p.weight_of(z) if hasattr(p, "weight_of") else z for p, z in zip(problems, points, strict=True)]


def damped(problem: Any, damp: float) -> np.ndarray:
    return problem.gram + damp * np.mean(np.diagonal(problem.gram)) * np.eye(problem.n)


# ------------------------------------------------------------------------------------- quantization


def plain_gptq(problem: Any, damp: float, order: np.ndarray) -> np.ndarray:
    """Round the next input; move those that are left by the inverse of their own damped Gram."""
    gram, w, v = damped(problem, damp), problem.weight.copy(), np.zeros(problem.n)
    for place, i in enumerate(order):
        left = order[place:]
        inverse = np.linalg.inv(gram[np.ix_(left, left)])
        v[i] = nearest(problem, i, w[i])
        w[left] -= (w[i] - v[i]) / inverse[0, 0] * inverse[0]
    return v


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("options", ["", ":damp=0.2", ":act-order", ":damp=0.05:act-order", ":damp=0"])
def test_gptq(seed, options):
    damp = float(options.split("damp=")[1].split(":")[0]) if "damp" in options else 0.01
    problems = coded(10, seed)
    for problem, found in zip(problems, propose("gptq" + options, problems), strict=True):
        power = np.diagonal(problem.gram)
        order = np.argsort(-power) if "act-order" in options else np.arange(problem.n)
        np.testing.assert_allclose(found, plain_gptq(problem, damp, order), rtol=1e-12)


def test_gptq_beyond_one_block_of_columns():
    problems = coded(150, 3)[1::2]
    for problem, found in zip(problems, propose("gptq", problems), strict=True):
        np.testing.assert_allclose(found, plain_gptq(problem, 0.01, np.arange(150)), rtol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_gptq_without_damping_is_nearest_plane_and_needs_an_inverse(seed):
    problems = coded(10, seed)
    for a, b in zip(propose("gptq:damp=0", problems), propose("nearest-plane", problems), strict=True):
        np.testing.assert_array_equal(a, b)
    singular = pvq.IntegerLeastSquares(gram_of(10, seed, positions=5), np.ones(10), 0.3, -4, 3)
    assert propose("gptq", [singular])
    with pytest.raises(InputError, match=r"Method gptq:damp=0 cannot propose: .* singular"):
        methods.proposals(["gptq:damp=0"], [singular])


def plain_descent(problem: Any, cycles: int) -> np.ndarray:
    """QuantEase's cycles; every third is unrounded up to the 26th, the last is not."""
    gram, w, v = problem.gram, problem.weight, problem.weight.copy()
    for cycle in range(cycles):
        for i in range(problem.n):
            others = np.delete(np.arange(problem.n), i)
            best = w[i] - gram[i, others] @ (v[others] - w[others]) / gram[i, i]
            unrounded = cycle % 3 == 1 and cycle <= 25 and cycle != cycles - 1
            v[i] = best if unrounded else nearest(problem, i, best)
    return v


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cycles", [1, 2, 7, 30])
def test_coordinate_descent(seed, cycles):
    problems = coded(9, seed)
    found = propose(f"cd:cycles={cycles}", problems)
    for problem, own in zip(problems, found, strict=True):
        np.testing.assert_allclose(own, plain_descent(problem, cycles), rtol=1e-12)


def test_coordinate_descent_beyond_one_block_of_columns():
    problems = coded(150, 3)[1::2]
    for problem, found in zip(problems, propose("cd:cycles=4", problems), strict=True):
        np.testing.assert_allclose(found, plain_descent(problem, 4), rtol=1e-12)


def plain_obq(problem: Any) -> np.ndarray:
    """Every inverse anew: outliers first, then the least (q - w)² / (H⁻¹)_ii."""
    w, v, left = problem.weight.copy(), np.zeros(problem.n), list(range(problem.n))
    values = problem.values
    while left:
        inverse = np.linalg.inv(problem.gram[np.ix_(left, left)])
        change = np.array([nearest(problem, i, w[i]) - w[i] for i in left])
        half = [0.5 * gap_beyond(problem, i, w[i]) for i in left]
        beyond = [max(w[i] - values.highest[i], values.lowest[i] - w[i]) for i in left]
        outlier = np.array(beyond) > half
        if outlier.any():
            place = int(np.where(outlier, change**2, -1.0).argmax())
        else:
            place = int((change**2 / np.diagonal(inverse)).argmin())
        i = left[place]
        v[i] = nearest(problem, i, w[i])
        w[left] += inverse[:, place] * (change[place] / inverse[place, place])
        left.remove(i)
    return v


def gap_beyond(problem: Any, i: int, point: float) -> float:
    """Distance of the last two values at the end that a point is nearer to."""
    if isinstance(problem.values, Steps):
        return float(problem.step[i])
    return float(np.diff(LEVELS)[-1 if point > 0 else 0])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1.0, 3.0])
def test_obq(seed, size):
    """With weights three times as large many lie outside the grid."""
    problems = [moved_weights(problem, size) for problem in coded(9, seed)]
    for problem, found in zip(problems, propose("obq", problems), strict=True):
        np.testing.assert_allclose(found, plain_obq(problem), rtol=1e-12)


def moved_weights(problem: Any, size: float) -> Any:
    if isinstance(problem.values, Steps):
        ends = problem.scale, problem.qmin, problem.qmax
        return pvq.IntegerLeastSquares(problem.shared, size * problem.weight, *ends)
    return pvq.CodebookLeastSquares(problem.shared, size * problem.weight, LEVELS)


def test_obq_rounds_what_optimal_brain_surgeon_keeps():
    problems = coded(8, 2, pattern=(2, 4))
    for problem, found in zip(problems, propose("obq", problems), strict=True):
        sparse = pvq.SparseLeastSquares(problem.shared, problem.weight, pattern=(2, 4))
        refit = plain_obs(sparse)
        kept = np.flatnonzero(refit)
        block = problem.gram[np.ix_(kept, kept)]
        if isinstance(problem.values, Steps):
            values = problem.values.among(kept)
            inner: Any = pvq.IntegerLeastSquares(block, refit[kept], values.step, values.qmin, values.qmax)
        else:
            inner = pvq.CodebookLeastSquares(block, refit[kept], LEVELS)
        np.testing.assert_allclose(found[kept], plain_obq(inner), rtol=1e-12)
        assert not np.delete(found, kept).any()


@pytest.mark.parametrize("seed", range(3))
def test_adaround(seed):
    """The same loss by automatic differentiation and an optimiser of others."""
    torch = pytest.importorskip("torch")
    problems, steps = coded(8, seed), 60
    for problem, found in zip(
        problems, propose(f"adaround:steps={steps}:rate=0.1:penalty=10", problems), strict=True
    ):
        values = [table(problem, i) for i in range(problem.n)]
        place = [np.searchsorted(v[1:-1], w, "right") for v, w in zip(values, problem.weight, strict=True)]
        below = torch.tensor([v[k] for v, k in zip(values, place, strict=True)])
        above = torch.tensor([v[k + 1] for v, k in zip(values, place, strict=True)])
        gram, w = torch.tensor(problem.gram), torch.tensor(problem.weight)

        def error(v, gram=gram, w=w):
            return (v - w) @ gram @ (v - w)

        share = (w - below) / (above - below)
        unit = error(torch.where(share > 0.5, above, below))
        variable = torch.logit((share.clamp(0.01, 0.99) + 0.1) / 1.2).requires_grad_()
        adam = torch.optim.Adam([variable], lr=0.1)
        for step in range(steps):
            h = (torch.sigmoid(variable) * 1.2 - 0.1).clamp(0.0, 1.0)
            loss = error(below + h * (above - below)) / unit
            progress = (step / steps - 0.2) / 0.8
            if progress > 0.0:
                beta = 2.0 + 18.0 * (1.0 - progress)
                loss = loss + 10.0 / problem.n * (1.0 - (2.0 * h - 1.0).abs() ** beta).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        np.testing.assert_allclose(found, torch.where(variable > 0.0, above, below).numpy(), rtol=1e-12)


def table(problem: Any, i: int) -> np.ndarray:
    if isinstance(problem.values, Steps):
        return np.asarray(problem.step[i] * np.arange(problem.low[i], problem.high[i] + 1))
    return LEVELS


# ------------------------------------------------------------------------------------------ pruning

RULES = [{"nnz": 4}, {"pattern": (2, 4)}, {"pattern": (1, 3), "stride": 2}, {"nnz": 0}, {"nnz": 12}]


@pytest.mark.parametrize("rule", RULES)
def test_wanda(rule):
    problems = pruned(12, 1, **rule)
    for problem, found in zip(problems, propose("wanda", problems), strict=True):
        size = np.abs(problem.weight) * np.sqrt(np.diagonal(problem.gram))
        wanted = np.zeros(12)
        for inputs, most in problem.budgets:
            kept = sorted(inputs, key=lambda i, size=size: -size[i])[:most]
            wanted[kept] = problem.weight[kept]
        np.testing.assert_array_equal(found, wanted)


def plain_obs(problem: Any) -> np.ndarray:
    """Try every removal by solving for all that is left, take the best, and again."""
    kept = set(range(problem.n))
    while True:
        free = [i for inputs, most in problem.budgets if len(kept & set(inputs)) > most for i in inputs]
        candidates = sorted(kept & set(free))
        if not candidates:
            return problem.refit(np.array(sorted(kept), dtype=np.int64))
        errors = [error_at(problem, refitted(problem, sorted(kept - {i}))) for i in candidates]
        kept.remove(candidates[int(np.argmin(errors))])


def refitted(problem: Any, kept: list[int]) -> np.ndarray:
    v = np.zeros(problem.n)
    if kept:
        pull = problem.gram[kept] @ problem.weight
        v[kept] = np.linalg.solve(problem.gram[np.ix_(kept, kept)], pull)
    return v


def error_at(problem: Any, v: np.ndarray) -> float:
    return float((v - problem.weight) @ problem.gram @ (v - problem.weight))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rule", RULES)
def test_optimal_brain_surgeon(seed, rule):
    problems = pruned(12, seed, **rule)
    for problem, found in zip(problems, propose("obs", problems), strict=True):
        np.testing.assert_allclose(found, plain_obs(problem), rtol=1e-7, atol=1e-9)


def plain_sparsegpt(problem: Any, damp: float, block: int, rounds: bool) -> np.ndarray:
    """Column after column, every inverse anew; a mask by w² / (H⁻¹ of what is left)² at its first column."""
    gram, w, v = damped(problem, damp), problem.weight.copy(), np.zeros(problem.n)
    masks = {}
    for inputs, most in problem.budgets:
        for start in range(0, len(inputs), block):
            stop = min(start + block, len(inputs))
            own = most * stop // len(inputs) - most * start // len(inputs)
            masks[inputs[start]] = inputs[start:stop], own
    removed: set[int] = set()
    for i in range(problem.n):
        if i in masks:
            inputs, most = masks[i]
            # the error of removing input j when its turn comes: w_j² over the first entry of the inverse then
            cost = {j: w[j] ** 2 / np.linalg.inv(gram[j:, j:])[0, 0] for j in inputs}
            removed |= set(sorted(inputs, key=cost.get)[: len(inputs) - most])
        v[i] = 0.0 if i in removed else nearest(problem, i, w[i]) if rounds else w[i]
        inverse = np.linalg.inv(gram[i:, i:])
        w[i:] -= (w[i] - v[i]) / inverse[0, 0] * inverse[0]
    return v


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", ["", ":damp=0.1", ":block=5"])
def test_sparsegpt(seed, rule, options):
    damp, block = (0.1 if "damp" in options else 0.01), (5 if "block" in options else 128)
    problems = pruned(12, seed, **rule)
    for problem, found in zip(problems, propose("sparsegpt" + options, problems), strict=True):
        np.testing.assert_allclose(found, plain_sparsegpt(problem, damp, block, False), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("rule", [{"nnz": 70}, {"pattern": (2, 5), "stride": 30}])
def test_sparsegpt_beyond_one_block_of_columns(rule):
    (problem,) = pruned(150, 5, **rule)[:1]
    (found,) = propose("sparsegpt", [problem])
    np.testing.assert_allclose(found, plain_sparsegpt(problem, 0.01, 128, False), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rule", RULES[:3])
def test_sparsegpt_with_rounding(seed, rule):
    problems = coded(12, seed, **rule)
    for problem, found in zip(problems, propose("sparsegpt", problems), strict=True):
        np.testing.assert_allclose(found, plain_sparsegpt(problem, 0.01, 128, True), rtol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rule", RULES)
def test_no_swap_improves_what_swaps_leave(seed, rule):
    problems = pruned(12, seed, **rule)
    start = propose("wanda", problems)
    for problem, first, found in zip(problems, start, propose("swaps", problems), strict=True):
        kept = found != 0.0
        np.testing.assert_array_equal(found[kept], problem.weight[kept])
        assert np.count_nonzero(kept) == np.count_nonzero(first)
        error = error_at(problem, found)
        assert error <= error_at(problem, first)
        for inputs, _ in problem.budgets:
            for out in inputs[kept[inputs]]:
                for back in inputs[~kept[inputs]]:
                    other = found.copy()
                    other[out], other[back] = 0.0, problem.weight[back]
                    assert error_at(problem, other) >= error - 1e-9
    for problem, found, fitted in zip(
        problems, propose("swaps", problems), propose("swaps:refit", problems), strict=True
    ):
        np.testing.assert_allclose(fitted, refitted(problem, list(np.flatnonzero(found))), rtol=1e-6)


def plain_alps(problem: Any) -> np.ndarray:
    """The support of ADMM on one channel by solving its systems, then the re-fit."""
    gram = damped(problem, 0.01)
    power = np.sqrt(np.diagonal(gram))
    H, w, n = gram / np.outer(power, power), problem.weight * power, problem.n

    def projected(x):
        kept = np.zeros(n, dtype=bool)
        for inputs, most in problem.budgets:
            kept[sorted(inputs, key=lambda i: -abs(x[i]))[:most]] = True
        return kept

    kept = projected(w)
    first, support, size = np.where(kept, w, 0.0), kept, max(1, int(kept.sum()))
    D, V, rho, moved, B = first.copy(), np.zeros(n), 0.1, False, w
    for t in range(300):
        B = np.linalg.solve(H + rho * np.eye(n), H @ w - V + rho * D)
        kept = projected(B + V / rho)
        D = np.where(kept, B + V / rho, 0.0)
        V = V + rho * (B - D)
        if (t + 1) % 3:
            continue
        changed, support = int((kept != support).sum()), kept
        if changed / size > 0.1:
            moved, rho = True, 1.3 * rho
        elif changed / size > 0.005:
            moved, rho = True, 1.2 * rho
        elif changed > 0:
            rho = 1.1 * rho if moved else rho / 5
            if not moved:
                D, V = first.copy(), np.zeros(n)
        elif moved:
            break
        else:
            rho /= 5
        if t >= 30 and changed / size < 0.0003:
            break
    return refitted(problem, list(np.flatnonzero(projected(B))))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rule", RULES)
def test_alps(seed, rule):
    problems = pruned(12, seed, **rule)
    for problem, found in zip(problems, propose("alps", problems), strict=True):
        np.testing.assert_allclose(found, plain_alps(problem), rtol=1e-6, atol=1e-9)


def test_alps_where_the_support_changes_by_little_of_itself():
    gram, rng = gram_of(440, 1, positions=900), np.random.default_rng(1)
    for nnz in (405, 430):
        problem = pvq.SparseLeastSquares(gram, rng.standard_normal(440), nnz=nnz)
        (found,) = propose("alps", [problem])
        np.testing.assert_array_equal(found != 0.0, plain_alps(problem) != 0.0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rule", [{"nnz": 3}, {"pattern": (2, 4)}])
def test_no_pruning_is_better_than_all_supports(seed, rule):
    problems = pruned(8, seed, **rule)
    found = methods.proposals(methods.names("pruning"), problems)
    for i, problem in enumerate(problems):
        sizes = [combinations(inputs, most) for inputs, most in problem.budgets]
        supports = [[]]
        for choices in sizes:
            own = list(choices)
            supports = [[*support, *choice] for support in supports for choice in own]
        least = min(error_at(problem, refitted(problem, sorted(support))) for support in supports)
        for name, weights in found.items():
            assert problem.error(weights[i]).upper >= least * (1.0 - 1e-9), name
