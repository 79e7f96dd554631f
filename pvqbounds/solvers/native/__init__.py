"""The native engines: exact searches and the dual of the box-hull SDP."""
