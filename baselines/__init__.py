"""Baselines: bounds, NMF and NMFD."""
