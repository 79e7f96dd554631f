"""Enclosures, double-double sums, proved definiteness: arithmetic with its rounding accounted for."""
