"""Metrics, the runner, the leaderboard and the speed comparisons."""
