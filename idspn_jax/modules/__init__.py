"""Thin Flax modules: parameters plus a call into ops and solvers."""
