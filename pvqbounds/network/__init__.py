"""Whole networks: their layers' results together."""
