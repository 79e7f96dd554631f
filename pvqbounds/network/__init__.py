"""Whole networks: what is asked of every layer, unit by unit, on one machine or a cluster."""
