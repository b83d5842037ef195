"""Generators and readers of sets; NumPy only."""
