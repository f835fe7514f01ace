"""Sub-commands of `stemgmd` that belong to this package."""
