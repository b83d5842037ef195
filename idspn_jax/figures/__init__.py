"""Figures of sets, scenes and convergence, as PNG files (needs matplotlib)."""
