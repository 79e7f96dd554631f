"""The paper's Figures 1 to 3 from our numbers, in a light and a dark theme, as vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pvqbounds.errors import InputError
from pvqbounds.report.plot import check_plot_path, figure_class
from pvqbounds.storage.archive import replacing
from pvqbounds.studies.distributions import Distribution
from pvqbounds.studies.expected import (
    BASE_BITS,
    ExpectedErrors,
    codes_of,
    crossover_kurtosis,
    expected_errors,
    truncated_student,
)
from pvqbounds.studies.rows import WeightRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "THEMES",
    "Theme",
    "check_figure_paths",
    "draw_distribution",
    "draw_tails",
    "draw_weights",
    "study_tails",
]

FEWEST_TENSORS = 20
"""Tensors from which on a region of Figure 3 is drawn from their density."""

KURTOSIS_WIDTH, BITS_WIDTH = 0.4, 0.5
"""Widths of that density's kernel: octaves of kurtosis, and bits."""


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; quantization and pruning are told apart by the colour-blind too."""

    background: str
    ink: str
    faint: str
    quantization: str
    pruning: str
    ramp: str
    """Matplotlib's name of the colours of the bit widths."""


# Okabe and Ito, "Color universal design", 2008
THEMES = {
    "light": Theme("#ffffff", "#222222", "#d5d5d5", "#0072B2", "#D55E00", "viridis_r"),
    "dark": Theme("#16181d", "#e6e6e6", "#3a3f4b", "#56B4E9", "#E69F00", "viridis"),
}


def check_figure_paths(path: Path, theme: str) -> dict[Path, Theme]:
    """The files that a figure goes to, found out before any work.

    Parameters
    ----------
    path
        Ends in `.svg`, `.pdf` or `.png`.
    theme
        "light", "dark", or "both": then the theme's name is added to that of the file.

    Raises
    ------
    InputError
        If there is no such theme, or matplotlib is not installed.
    OutputError
        If the kind of picture is unknown or a path cannot be written.
    """
    if theme not in (*THEMES, "both"):
        raise InputError(f"The theme must be {', '.join(THEMES)} or both, not '{theme}'.")
    files = {
        path if theme == name else path.with_stem(f"{path.stem}-{name}"): colours
        for name, colours in THEMES.items()
        if theme in (name, "both")
    }
    for file in files:
        check_plot_path(file)
    return files


@contextmanager
def _figure(path: Path, theme: Theme, width: float, height: float) -> Iterator[Any]:
    """A figure in the colours of a theme, written to `path` at the end."""
    figure_type = figure_class()
    from matplotlib import rc_context

    colours: dict[Any, Any] = {
        "figure.facecolor": theme.background,
        "axes.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "grid.color": theme.faint,
        "legend.labelcolor": theme.ink,
    }
    shape: dict[Any, Any] = {
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "grid.linewidth": 0.6,
        "svg.hashsalt": "pvqbounds",
    }
    kind = path.suffix.lower().removeprefix(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context(colours | shape), replacing(path) as temporary:
        figure = figure_type(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(temporary, dpi=160, format=kind, metadata=undated.get(kind))


# --------------------------------------------------------------------------------------- Figure 1


def draw_distribution(
    distribution: Distribution,
    errors: Sequence[ExpectedErrors],
    path: Path,
    theme: Theme,
    bits: int = 4,
    *,
    narrow: bool = False,
) -> None:
    """Figure 1: what INT4 and 75 % pruning do to a distribution, where they err, and SQNR against size.

    Parameters
    ----------
    distribution
        What the weights are drawn from.
    errors
        Its expected errors, of whole tensors.
    path, theme
        Where to, and in which colours.
    bits
        Bit width of the first two panels.
    narrow
        Leave out the code -2^(b-1) there, as in `errors`.

    Raises
    ------
    InputError
        If the distribution has no second moment, so that there is nothing to draw.
    """
    if not math.isfinite(distribution.signal):
        raise InputError(f"{distribution.name} has no second moment; there is no error to draw.")
    (example,) = expected_errors(distribution, [bits], narrow=narrow)
    qmin, qmax = codes_of(bits, narrow)
    scale = example.losses.scale
    threshold = float(distribution.magnitude_above(example.density))
    reach = 1.15 * max(-qmin * scale, threshold)
    w = np.linspace(-reach, reach, 4001)
    density = distribution.density(w)
    codes = np.clip(np.rint(w / scale), qmin, qmax)
    with _figure(path, theme, 11.0, 3.4) as figure:
        left, middle, right = figure.subplots(1, 3)
        left.fill_between(w, density, color=theme.faint, linewidth=0, label="weights")
        kept = np.abs(w) > threshold
        left.fill_between(w, density, where=kept, color=theme.pruning, alpha=0.55, linewidth=0, label="kept")
        grid = scale * np.arange(qmin, qmax + 1)
        left.vlines(grid, 0.0, distribution.density(grid), color=theme.quantization, linewidth=1.4)
        left.plot(grid, distribution.density(grid), "o", color=theme.quantization, markersize=3, label="grid")
        removed = 100.0 * (1.0 - example.density)
        left.set(title=f"INT{bits} and {removed:g} % pruning", xlabel="weight", ylabel="density")
        left.legend()
        errors_of = {"pruning": np.where(kept, 0.0, w * w), "quantization": (w - scale * codes) ** 2}
        for name, error in errors_of.items():
            sqnr = example.sqnr(getattr(example.losses, name))
            _draw_error(middle, w, error * density, getattr(theme, name), f"{name}, {sqnr:.2f} dB")
        middle.set(title="squared error times density", xlabel="weight")
        middle.set_ylim(0.0, 1.35 * middle.get_ylim()[1])  # room for the legend
        middle.legend(loc="upper center", ncols=2)
        _draw_curves(right, errors, theme)
        title = distribution.name + grid_text(narrow, None)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")


def _draw_error(
    axes: Axes, weight: NDArray[np.float64], density: NDArray[np.float64], colour: str, label: str
) -> None:
    axes.fill_between(weight, density, color=colour, alpha=0.35, linewidth=0)
    axes.plot(weight, density, color=colour, linewidth=1.0, label=label)


def _draw_curves(axes: Axes, errors: Sequence[ExpectedErrors], theme: Theme) -> None:
    bits = [each.bits for each in errors]
    limits = [each.limit for each in errors]
    curves = (
        ("any coder, at most", limits, theme.ink, "--", ""),
        ("quantization", [e.sqnr(e.losses.quantization) for e in errors], theme.quantization, "-", "o"),
        ("pruning", [e.sqnr(e.losses.pruning) for e in errors], theme.pruning, "-", "o"),
        ("pruning, mask charged", [e.sqnr(e.losses.masked) for e in errors], theme.pruning, ":", ""),
    )
    for label, values, colour, style, marker in curves:
        axes.plot(bits, values, style, marker=marker, markersize=4, color=colour, label=label)
    ticks = [f"{width}\n{100.0 * (1.0 - width / BASE_BITS):.0f} %" for width in bits]
    axes.set(title="SQNR against size", xlabel="bits a weight, and weights pruned", ylabel="SQNR, dB")
    axes.set_xticks(bits, ticks)
    axes.legend()


# --------------------------------------------------------------------------------------- Figure 2


@dataclass(frozen=True)
class TailStudy:
    """A Student-t truncated further and further out."""

    bits: Sequence[int]
    errors: Sequence[Sequence[ExpectedErrors]]
    """At each range, at each bit width."""
    crossovers: Sequence[float]
    """The kurtosis from which on pruning is better, at each bit width; infinite if there is none."""
    grid: str = ""
    """What is special about the grid, for the title."""


def study_tails(
    bits: Sequence[int],
    ranges: Sequence[float] = tuple(np.geomspace(2.0, 400.0, 28).tolist()),
    progress: Callable[[int, int, str], None] | None = None,
    *,
    narrow: bool = False,
    group_size: int | None = None,
) -> TailStudy:
    """Compute what Figure 2 shows.

    Parameters
    ----------
    bits
        Bit widths.
    ranges
        Where the paper's family (:func:`pvqbounds.studies.expected.truncated_student`) is cut off.
    progress
        Called with steps done, steps in all and what is next.
    narrow, group_size
        As in :func:`pvqbounds.studies.expected.expected_errors`.
    """
    errors = []
    for done, limit in enumerate(ranges):
        if progress is not None:
            progress(done, len(ranges), f"range {limit:.3g}")
        errors.append(expected_errors(truncated_student(limit), bits, narrow=narrow, group_size=group_size))
    found = [crossover_kurtosis(width, narrow=narrow, group_size=group_size) for width in bits]
    crossovers = [math.inf if each is None else each.kurtosis for each in found]
    return TailStudy(bits, errors, crossovers, grid_text(narrow, group_size))


def grid_text(narrow: bool, group_size: int | None) -> str:
    """What a figure's title says of another grid than the usual one."""
    groups = "" if group_size is None else f", groups of {group_size}"
    return groups + (", without the code -2^(b-1)" if narrow else "")


def draw_tails(study: TailStudy, path: Path, theme: Theme) -> None:
    """Figure 2: SQNR of pruning and of quantization against kurtosis, and where either is better."""
    bits = study.bits
    kurtosis = [errors[0].kurtosis for errors in study.errors]
    with _figure(path, theme, 11.0, 3.4) as figure:
        panels = figure.subplots(1, 3)
        colours = _ramp(theme, len(bits))
        for axes, name in zip(panels[:2], ("pruning", "quantization"), strict=True):
            for column, width in enumerate(bits):
                values = [e[column].sqnr(getattr(e[column].losses, name)) for e in study.errors]
                axes.plot(kurtosis, values, color=colours[column], label=f"{width} bits")
            axes.set(title=f"{name}, SQNR in dB", xlabel="kurtosis (non-excess)", xscale="log")
        low, high = (function([*panels[0].get_ylim(), *panels[1].get_ylim()]) for function in (min, max))
        for axes in panels[:2]:
            axes.set_ylim(low, high)
        panels[0].legend(ncols=2)
        _draw_regions(panels[2], bits, study.crossovers, theme)
        panels[2].set_xlim(min(kurtosis), max(kurtosis))
        title = "Student-t of two degrees of freedom, truncated at growing ranges" + study.grid
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")


def _draw_regions(axes: Axes, bits: Sequence[int], kurtosis: Sequence[float], theme: Theme) -> None:
    """Which is better, by kurtosis and bits, on both sides of the crossover."""
    finite = [(k, b) for k, b in zip(kurtosis, bits, strict=True) if math.isfinite(k)]
    crossing, widths = [k for k, _ in finite], [b for _, b in finite]
    axes.fill_betweenx(widths, crossing, 1e9, color=theme.pruning, alpha=0.3, linewidth=0)
    axes.fill_betweenx(widths, 1.0, crossing, color=theme.quantization, alpha=0.3, linewidth=0)
    axes.plot(crossing, widths, "o-", color=theme.ink, markersize=4)
    axes.text(0.04, 0.93, "quantization better", transform=axes.transAxes, color=theme.quantization)
    axes.text(0.96, 0.05, "pruning better", transform=axes.transAxes, ha="right", color=theme.pruning)
    axes.set(title="which is better", xlabel="kurtosis (non-excess)", ylabel="bits a weight", xscale="log")
    axes.set(ylim=(min(bits), max(*bits, min(bits) + 1)), yticks=list(bits))


def _ramp(theme: Theme, count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps[theme.ramp](x) for x in np.linspace(0.12, 0.92, count)]


# --------------------------------------------------------------------------------------- Figure 3


def draw_weights(rows: Sequence[WeightRow], path: Path, theme: Theme) -> None:
    """Figure 3: real tensors, pruning against quantization, and where pruning is better.

    The region is where a kernel density of the tensors on which pruning has the higher SQNR
    exceeds that of the others, over kurtosis and bits; it is drawn from `FEWEST_TENSORS` tensors on.

    Raises
    ------
    InputError
        If no tensor has both SQNR and a kurtosis.
    """
    # of tensors that are laid side by side, ours
    source = "pvqbounds" if any(row.source == "pvqbounds" for row in rows) else "released"
    drawn = [
        row
        for row in rows
        if row.source == source
        and all(map(math.isfinite, (row.quantization_sqnr, row.pruning_sqnr, row.kurtosis)))
        and row.kurtosis >= 1.0  # the released figures hold impossible ones
    ]
    if not drawn:
        raise InputError("No tensor has a finite SQNR and a kurtosis; there is nothing to draw.")
    bits = sorted({row.bits for row in drawn})
    with _figure(path, theme, 9.0, 4.2) as figure:
        left, right = figure.subplots(1, 2)
        tensors = len({(row.model, row.tensor) for row in drawn})
        alpha = max(0.12, min(0.8, 60.0 / tensors))
        for colour, width in zip(_ramp(theme, len(bits)), bits, strict=True):
            mine = [row for row in drawn if row.bits == width]
            x, y = [row.quantization_sqnr for row in mine], [row.pruning_sqnr for row in mine]
            left.scatter(x, y, s=9, color=colour, alpha=alpha, linewidths=0, rasterized=len(mine) > 5000)
            left.scatter(
                [], [], s=14, color=colour, label=f"{width} bits, {100 * (1 - width / 16):g} % pruned"
            )
        top = 1.05 * max(max(row.quantization_sqnr, row.pruning_sqnr) for row in drawn)
        left.plot([0.0, top], [0.0, top], "--", color=theme.ink, linewidth=0.8)
        left.set(xlim=(0.0, top), ylim=(0.0, top), aspect="equal")
        left.set(xlabel="SQNR of quantization, dB", ylabel="SQNR of pruning, dB")
        left.set_title(f"{tensors} weight tensors" + ("" if source == "pvqbounds" else ", released figures"))
        left.legend()
        _draw_density(right, drawn, bits, theme, tensors)


def _draw_density(
    axes: Axes, rows: Sequence[WeightRow], bits: Sequence[int], theme: Theme, tensors: int
) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    x = np.log2([row.kurtosis for row in rows])
    y = np.array([float(row.bits) for row in rows])
    pruning = np.array([row.pruning_sqnr > row.quantization_sqnr for row in rows])
    grid_x = np.linspace(x.min(), x.max() + 1e-9, 160)
    grid_y = np.linspace(min(bits), max(bits), 80)
    if tensors >= FEWEST_TENSORS and pruning.any() and len(bits) > 1:
        # a product of Gaussian kernels, summed over the tensors of either kind
        near_x = np.exp(-0.5 * ((grid_x[:, None] - x) / KURTOSIS_WIDTH) ** 2)
        near_y = np.exp(-0.5 * ((grid_y[:, None] - y) / BITS_WIDTH) ** 2)
        balance = near_y @ (np.where(pruning, 1.0, -1.0)[:, None] * near_x.T)
        span = [-math.inf, 0.0, math.inf]
        axes.contourf(
            2.0**grid_x, grid_y, balance, span, colors=[theme.quantization, theme.pruning], alpha=0.25
        )
    spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(rows))
    for better, name in ((False, "quantization"), (True, "pruning")):
        mine = pruning == better
        colour = getattr(theme, name)
        axes.scatter(
            2.0 ** x[mine],
            y[mine] + spread[mine],
            s=5 if tensors > 200 else 14,
            color=colour,
            alpha=0.5 if tensors > 200 else 0.9,
            linewidths=0,
            rasterized=len(rows) > 5000,
        )
        axes.scatter([], [], s=18, color=colour, label=f"{name} better")
    axes.set(xscale="log", xlabel="kurtosis (non-excess)", ylabel="bits a weight", yticks=list(bits))
    axes.set(xlim=(min(1.5, 2.0 ** x.min()), max(12.0, 1.1 * 2.0 ** x.max())))
    axes.set(ylim=(min(bits) - 0.4, max(bits) + 1.2))  # room for the legend
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title("which is better")
    axes.legend(loc="upper right", ncols=2)
