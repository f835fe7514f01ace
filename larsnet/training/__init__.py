"""Training: examples rendered while it runs, the loop, the run's folder, validation."""
