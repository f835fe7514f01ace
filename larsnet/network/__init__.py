"""Networks that turn a mixture's spectrum into masks of its stems, and the files they travel in."""
