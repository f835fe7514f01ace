"""Drum kits as data, and whether they are what the catalogue says."""
