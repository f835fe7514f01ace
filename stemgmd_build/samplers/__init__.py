"""One module a source of drum sounds."""
