"""A dataset on disk: planned, written by workers, described, verified."""
