"""Figures of sets, scenes and convergence (needs matplotlib).

Every drawing function returns a `matplotlib.figure.Figure`, made without
pyplot; `save.save_figure` writes it.
"""
