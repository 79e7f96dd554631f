"""What is minimised: discrete least-squares problems, grids, chunks and file formats."""

from pvqbounds.problems.any_scale import AnyScaleLeastSquares
from pvqbounds.problems.codebook import CodebookLeastSquares
from pvqbounds.problems.gram import Gram
from pvqbounds.problems.integer import IntegerLeastSquares
from pvqbounds.problems.least_squares import LeastSquares, Point, Problem, Task, all_of
from pvqbounds.problems.sparse import SparseLeastSquares, magnitude_support

__all__ = [
    "AnyScaleLeastSquares",
    "CodebookLeastSquares",
    "Gram",
    "IntegerLeastSquares",
    "LeastSquares",
    "Point",
    "Problem",
    "SparseLeastSquares",
    "Task",
    "all_of",
    "magnitude_support",
]
