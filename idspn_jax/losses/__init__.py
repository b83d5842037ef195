"""Losses between predicted and target sets."""
