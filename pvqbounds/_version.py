"""The version: its one source, which packaging reads without importing anything."""

__version__ = "0.2.0"
