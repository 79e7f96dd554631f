"""The native engines for pruning."""
