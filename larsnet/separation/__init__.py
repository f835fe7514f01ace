"""Separation: recordings in, stems out."""
