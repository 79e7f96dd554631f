"""LAPACK by address and arrays for NumPy and PyTorch."""
