"""Sub-commands that build and read datasets, one module each: arguments in, exit status out."""
