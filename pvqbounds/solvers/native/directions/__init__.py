"""Bounds by cases: weights in slabs along directions of next to no power."""
