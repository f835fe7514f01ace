"""From the records of a run to tables, statistics and one page."""
