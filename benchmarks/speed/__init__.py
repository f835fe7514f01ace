"""Speed comparisons, side by side in one run: what `make bench` runs."""
