"""Backends that solve integer programs."""
