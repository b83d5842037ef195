"""Metrics that are not losses."""
