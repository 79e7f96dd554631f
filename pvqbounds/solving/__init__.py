"""Solving: one problem, the channels of a layer, one budget over a layer; and proving again."""
