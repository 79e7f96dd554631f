"""Backends that solve relaxations."""
