"""What performances lose when they are read: notes that no map knows, damage that is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from stemgmd_build.config import one_line
from stemgmd_build.performances.midi import Score
from stemgmd_build.performances.notes import DRUM_CHANNEL, NOTES

NOT_PLAYED: Final = "not_played"
"""Of dataset.json: notes that no sound answers to, and how many of each."""

DAMAGE: Final = "midi_damage"
"""Of dataset.json: performance -> what its file was read without."""

_MOST_NAMED: Final = 8


def lost_notes(scores: Iterable[Score]) -> dict[str, int]:
    """("note 35" or "note 36 on channel 1") -> how many of it are not played."""
    counts: Counter[tuple[int, int]] = Counter()
    for score in scores:
        for channel, note, n in score.ignored:
            counts[channel, note] += n
    return {name_of(channel, note): n for (channel, note), n in sorted(counts.items())}


def name_of(channel: int, note: int) -> str:
    """What a note of a channel (1 to 16) is called in messages and in dataset.json."""
    return f"note {note}" + ("" if channel == DRUM_CHANNEL + 1 else f" on channel {channel}")


def told(lost: Mapping[str, int]) -> str:
    """One line about notes that are not played, with the way out; "" where none are."""
    if not lost:
        return ""
    most = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name} ({n})" for name, n in most[:_MOST_NAMED])
    more = f" and {len(most) - _MOST_NAMED} more" if len(most) > _MOST_NAMED else ""
    return (
        f"{sum(lost.values())} notes are not played: {named}{more}; a {NOTES} beside info.csv can "
        "name them"
    )


def why_silent(score: Score) -> str:
    """Why a performance plays nothing."""
    return told(lost_notes([score])) or "it holds no note"


def losses(scores: Mapping[str, Score]) -> dict[str, Any]:
    """What dataset.json says of what its performances (by id) lost; empty where nothing is."""
    found = {
        NOT_PLAYED: lost_notes(scores.values()),
        DAMAGE: {name: score.damage for name, score in scores.items() if score.damage},
    }
    return {key: value for key, value in found.items() if value}


def lines_of(settings: Mapping[str, Any]) -> list[str]:
    """The losses that a dataset.json states, in lines to be printed."""
    lost = told(settings.get(NOT_PLAYED, {}))
    damage = [f"{name}: {text}" for name, text in settings.get(DAMAGE, {}).items()]
    more = [f"... and {len(damage) - _MOST_NAMED} more"] if len(damage) > _MOST_NAMED else []
    lines = [*([lost] if lost else []), *damage[:_MOST_NAMED], *more]
    return [one_line(line, 400) for line in lines]
