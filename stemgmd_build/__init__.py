"""StemGMD regenerated: performances and kits in, exact drum stems out. No torch here."""
