"""Compiled steps of :mod:`pvqbounds.solvers.native.quantization.shared_values`, one channel at a time."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["hull_step", "priced_value"]

HALVINGS = 30
"""Of the bracket of a price."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _unpriced(y, lam, metric, row):  # type: ignore[no-untyped-def]
    """The minimiser of the hull of lam v² over a row of values plus metric (v - y)²."""
    low, high = 0, len(row) - 1
    while low < high:  # the first value whose next piece rises too steeply
        k = (low + high) // 2
        if y <= row[k] + lam * (row[k] + row[k + 1]) / (2.0 * metric):
            high = k
        else:
            low = k + 1
    if low == 0:
        return row[0]
    return min(y - lam * (row[low - 1] + row[low]) / (2.0 * metric), row[low])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _tangent(y, lam, row, price):  # type: ignore[no-untyped-def]
    """Of the values on y's side of 0, the one whose chord to 0 is the least steep; 0 where there is none.

    The steepness lam v + price / v falls until lam v v' = price, v' being the value beyond v.
    """
    side = 1 if y >= 0.0 else -1
    end = len(row) - 1 if side > 0 else 0
    low, high = 0, len(row)
    while low < high:  # the first value that is not below 0, or above it
        k = (low + high) // 2
        if row[k] > 0.0 or (side < 0 and row[k] == 0.0):
            high = k
        else:
            low = k + 1
    first = low if side > 0 else low - 1
    if not 0 <= first < len(row):
        return 0.0
    near, far = 0, abs(end - first)
    while near < far:
        k = (near + far) // 2
        i = first + side * k
        if lam * row[i] * row[i + side] >= price:
            far = k
        else:
            near = k + 1
    return row[first + side * near]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _priced(y, lam, metric, row, price):  # type: ignore[no-untyped-def]
    """The same of the hull of lam v² + price where v is not 0, and how much of a non-zero it is."""
    value = _tangent(y, lam, row, price)
    if value == 0.0:
        return 0.0, 0.0
    slope = (lam * value + price / value) / (2.0 * metric)
    if abs(y) <= abs(slope):
        return 0.0, 0.0
    point = y - slope
    if abs(point) < abs(value):
        return point, point / value
    point = _unpriced(y, lam, metric, row)
    return (point if abs(point) > abs(value) else value), 1.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def hull_step(y, lam, metric, values, order, starts, most, price, point):  # type: ignore[no-untyped-def]
    """The point of the hull that is next to y in the metric, lam v² counted, and the prices, in place.

    Of `order` the inputs from starts[g] to starts[g + 1] have budget g, and those after the last have none.
    """
    for g in range(len(most)):
        group = order[starts[g] : starts[g + 1]]
        used, high = 0.0, 0.0
        for i in group:
            point[i], share = _priced(y[i], lam[i], metric[i], values[i], 0.0)
            used += share
            reach = max(abs(values[i, 0]), abs(values[i, -1]))
            high = max(high, 2.0 * metric[i] * abs(y[i]) * reach)  # at which all of them are 0
        price[g] = 0.0
        if used <= most[g]:
            continue
        low = 0.0
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            used = 0.0
            for i in group:
                used += _priced(y[i], lam[i], metric[i], values[i], middle)[1]
            if used > most[g]:
                low = middle
            else:
                high = middle
        price[g] = high
        for i in group:
            point[i] = _priced(y[i], lam[i], metric[i], values[i], high)[0]
    for i in order[starts[-1] :]:
        point[i] = _unpriced(y[i], lam[i], metric[i], values[i])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def priced_value(offset, nu, lam, weight, values, order, starts, most, price):  # type: ignore[no-untyped-def]
    """What multipliers nu = S offset prove with these values and prices, but for rounding."""
    total = 0.0
    for i in range(len(nu)):
        total -= offset[i] * nu[i]
    for g in range(len(starts)):
        budgeted = g < len(most)
        end = starts[g + 1] if budgeted else len(order)
        for i in order[starts[g] : end]:
            least = np.inf
            for value in values[i]:
                d = value - weight[i]
                cost = (lam[i] * d + 2.0 * nu[i]) * d
                if budgeted and value != 0.0:
                    cost += price[g]
                least = min(least, cost)
            total += least
        if budgeted:
            total -= price[g] * most[g]
    return total
