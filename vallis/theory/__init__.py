"""Curves and bounds that need no trained network."""
