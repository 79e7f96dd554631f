"""Proposals without proof: quantizers and pruners by name."""
