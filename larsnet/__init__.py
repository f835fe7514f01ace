"""LarsNet: the network, its training and its use."""
