"""Performances: MIDI in, plain records of hits out."""
