"""What is minimised: the two discrete least-squares problems, grids, chunks and file formats."""

from pvqbounds.problems.gram import Gram
from pvqbounds.problems.integer import IntegerLeastSquares
from pvqbounds.problems.sparse import SparseLeastSquares, magnitude_support

Problem = IntegerLeastSquares | SparseLeastSquares

__all__ = ["Gram", "IntegerLeastSquares", "Problem", "SparseLeastSquares", "magnitude_support"]
