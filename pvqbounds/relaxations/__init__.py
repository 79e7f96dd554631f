"""Bounds as mathematics, no solver inside."""
