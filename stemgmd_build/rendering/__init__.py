"""A kit's one-shots and a performance's hits in, exact stems out."""
