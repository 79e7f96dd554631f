"""The native engines for quantization."""
