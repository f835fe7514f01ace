"""Metrics: arrays in, decibels out. Nothing here knows of tracks, systems or files."""
