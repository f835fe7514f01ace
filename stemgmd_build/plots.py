"""Pictures: one track at a glance, and the contact sheet of the kits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.files import whole
from stemgmd_build.rendering.bank import Bank
from stemgmd_build.taxonomy import (
    ARTICULATIONS,
    PIECE_OF_NOTE,
    PIECES,
    SAMPLE_RATE,
    STEM_OF_PIECE,
    STEMS,
)

COLORS: Final = dict(
    zip(STEMS, ("#3b6ea5", "#c0504d", "#6f9f45", "#d08a2e", "#7d5ba6"), strict=True)
)


def _figure(width: float, height: float, n_rows: int, n_columns: int, **options: Any) -> Any:
    # Without pyplot, which would take the place of a notebook's own drawing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, **options)


def _save(figure: Any, path: Path) -> None:
    with whole(path) as part:
        figure.savefig(part, dpi=110, format=path.suffix[1:])


def overview(
    path: Path,
    stems: dict[str, NDArray[np.float32]],
    onsets: Sequence[tuple[float, int]],
    title: str,
    window_sec: tuple[float, float],
) -> None:
    """Draw nine stems and the mixture of one track as waveforms, onsets marked, and the mixture's
    spectrogram.

    ``stems``: name -> float32 (2, n_samples), the mixture among them; ``onsets``: (seconds, note).
    """
    names = [*PIECES, "mixture"]
    ratios = [1] * 9 + [1.4, 2.2]
    figure, axes = _figure(13, 13, 11, 1, sharex=True, height_ratios=ratios)
    begin, end = (round(t * SAMPLE_RATE) for t in window_sec)
    for axis, name in zip(axes[:, 0], names, strict=False):
        color = "#444444" if name == "mixture" else COLORS[STEM_OF_PIECE[name]]
        times = [t for t, note in onsets if name in ("mixture", PIECE_OF_NOTE[note])]
        shown = [t for t in times if window_sec[0] <= t < window_sec[1]]
        _waveform(axis, stems[name][:, begin:end], window_sec, color)
        if name != "mixture":
            axis.vlines(shown, -1, 1, color="black", lw=0.7, alpha=0.45)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        peak = float(np.abs(stems[name][:, begin:end]).max(initial=0.0))
        level = f"peak {20 * np.log10(peak):.1f} dBFS" if peak else "silent"
        text = f"{len(shown)} {'hit' if len(shown) == 1 else 'hits'}\n{level}"
        axis.text(1.005, 0.5, text, transform=axis.transAxes, va="center", fontsize=8)
    _spectrogram(axes[-1, 0], stems["mixture"][:, begin:end], window_sec)
    axes[-1, 0].set_xlabel("seconds; thin lines are the onsets of the MIDI file")
    axes[0, 0].set_title(title, loc="left")
    _save(figure, path)


def _waveform(
    axis: Any, samples: NDArray[np.float32], window_sec: tuple[float, float], color: str
) -> None:
    """Outline of the louder channel in 2,000 columns, scaled to its own peak."""
    level = np.abs(samples).max(axis=0)
    peak = float(level.max(initial=0.0))
    n_columns = min(2000, max(1, len(level)))
    edges = np.linspace(0, len(level), n_columns, endpoint=False).astype(int)
    outline = np.maximum.reduceat(level, edges) / peak if peak else np.zeros(n_columns)
    time = np.linspace(*window_sec, n_columns)
    axis.fill_between(time, -outline, outline, color=color, lw=0)
    axis.set_ylim(-1.05, 1.05)
    axis.set_xlim(*window_sec)
    axis.set_yticks([])
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _spectrogram(axis: Any, samples: NDArray[np.float32], window_sec: tuple[float, float]) -> None:
    """Log-frequency magnitude spectrogram of the mid channel, 80 dB deep."""
    n_fft, hop = 2048, 512
    mid = np.pad(samples.mean(axis=0), (0, max(0, n_fft - samples.shape[1])))
    frames = np.lib.stride_tricks.sliding_window_view(mid, n_fft)[::hop] * np.hanning(n_fft)
    magnitude = 20 * np.log10(np.abs(np.fft.rfft(frames)).T + 1e-9)
    frequencies = np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE)
    time = np.linspace(*window_sec, magnitude.shape[1])
    top = magnitude.max()
    axis.pcolormesh(
        time, frequencies[1:], magnitude[1:], vmin=top - 80, vmax=top, cmap="magma", rasterized=True
    )
    axis.set_yscale("log")
    axis.set_ylim(40, 20000)
    axis.set_yticks([50, 100, 200, 500, 1000, 2000, 5000, 10000], minor=False)
    axis.set_yticklabels(["50", "100", "200", "500", "1k", "2k", "5k", "10k"])
    axis.minorticks_off()
    axis.set_ylabel("Hz", rotation=0, ha="right", va="center")


def contact_sheet(path: Path, banks: Sequence[Bank], velocity: int = 100) -> None:
    """Draw every piece of every kit: waveform over 600 ms, peak and ring written in."""
    figure, axes = _figure(17, 1.0 * len(banks) + 0.8, len(banks), len(PIECES), sharex=True)
    for row, bank in zip(axes, banks, strict=True):
        for axis, piece in zip(row, PIECES, strict=True):
            _contact(axis, bank, piece, velocity)
        row[0].set_ylabel(bank.kit.id, rotation=0, ha="right", va="center", fontsize=9)
    for axis, piece in zip(axes[0], PIECES, strict=True):
        axis.set_title(piece, fontsize=10)
    _save(figure, path)


def _contact(axis: Any, bank: Bank, piece: str, velocity: int) -> None:
    row = ARTICULATIONS.index(piece)
    index = int(bank.shot_of[row, velocity])
    shot = bank.shot(index)[:, : round(0.6 * SAMPLE_RATE)] * bank.gain_of[row, velocity]
    time = np.arange(shot.shape[1]) / SAMPLE_RATE * 1000
    n_layers = len(np.unique(bank.shot_of[row, 1:]))
    peak = max(float(np.abs(shot).max(initial=0.0)), 1e-9)
    axis.plot(time, shot.mean(axis=0) / peak, lw=0.4, color=COLORS[STEM_OF_PIECE[piece]])
    axis.set_ylim(-1.1, 1.1)
    axis.set_xlim(0, 600)
    axis.set_yticks([])
    axis.tick_params(labelsize=7)
    ring = bank.shots[index].n_tail60 / SAMPLE_RATE
    text = f"{20 * np.log10(peak):.0f} dB  {ring:.1f} s  {n_layers} layer{'s' * (n_layers > 1)}"
    axis.text(0.98, 0.95, text, transform=axis.transAxes, ha="right", va="top", fontsize=6)
