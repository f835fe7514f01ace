"""The comparison: tracks in, systems separated and scored, records out.

`scores` measures arrays, `report` makes tables and the page of records, `speed` compares run
times, `studies` holds the experiments beside the leaderboard; what lies here runs systems over
tracks and keeps their records.
"""
