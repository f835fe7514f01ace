"""Experiments beside the leaderboard: how settings were chosen, and what each part is worth."""
