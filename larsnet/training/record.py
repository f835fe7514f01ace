"""What a run writes while it goes: tables, TensorBoard, the plot of the curves, checkpoints."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from larsnet.network.checkpoint import save_checkpoint
from larsnet.network.protocol import MaskNetwork
from larsnet.training.config import TrainConfig, as_values
from larsnet.training.distributed import Team
from larsnet.training.run_folder import Progress, Table, save_state, told
from larsnet.training.validation import Score
from stemgmd_build.errors import UserError
from stemgmd_build.files import whole

_SMOOTH_STEPS: Final = 50


class Record:
    """The files of a run, kept by the process that leads; the others only help to average.

    ``progress`` is where the run stands, ``data_share`` the share of the time that was spent
    waiting for data, measured at some steps. ``before``: the notes of the checkpoint that the run
    starts from, which its own checkpoints hand on.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        team: Team,
        model: MaskNetwork,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        self.progress, self._before = progress, before
        self._folder, self._config, self._team = folder, config, team
        self._model, self._optimizer = model, optimizer
        self._begin = time.monotonic() - progress.seconds
        self._pending: list[tuple[int, float, Tensor]] = []
        self._data_sec = self._step_sec = 0.0
        stems = list(config.model.stems)
        if team.leads:
            with told(folder):
                folder.mkdir(parents=True, exist_ok=True)
            columns = ["step", "loss", *stems, "learning_rate"]
            self._losses = Table(folder / "losses.csv", columns, progress.step)
            columns = ["step", "loss", "nsdr_db", *stems, "seconds", "data_share"]
            self._scores = Table(folder / "validation.csv", columns, progress.step)
            self._board = _tensorboard(folder / "tensorboard", progress.step)

    @property
    def data_share(self) -> float:
        """Of the timed steps' time, from 0 to 1; NaN before the first."""
        return self._data_sec / self._step_sec if self._step_sec else math.nan

    def timed(self, data_sec: float, step_sec: float) -> None:
        """How long a step took, and its data."""
        self._data_sec += data_sec
        self._step_sec += step_sec

    def add(self, step: int, learning_rate: float, stem_losses: Tensor) -> None:
        """The losses of a finished step, of this process; they stay on the device for now."""
        self._pending.append((step, learning_rate, stem_losses))

    def flush(self) -> float:
        """Average over the processes and write what was added; the last step's mean loss.

        Raises UserError where a loss is no number: what is saved is from before.
        """
        stacked = torch.stack([stem_losses for _, _, stem_losses in self._pending])
        averaged = (self._team.sum(stacked) / self._team.size).tolist()
        rows = [
            {
                "step": step,
                "loss": sum(values) / len(values),
                "learning_rate": rate,
                **dict(zip(self._config.model.stems, values, strict=True)),
            }
            for (step, rate, _), values in zip(self._pending, averaged, strict=True)
        ]
        self._pending.clear()
        lost = next((row["step"] for row in rows if not math.isfinite(row["loss"])), None)
        if lost is not None:
            raise UserError(
                f"{self._folder}: the loss is no number any more at step {lost}; lower "
                "learning_rate (a new --out), or go on from an earlier state"
            )
        last: float = rows[-1]["loss"]
        if self._team.leads:
            self._losses.add(rows)
            for row in rows:
                self._to_board("loss", row["loss"], row["step"])
        return last

    def validated(self, step: int, score: Score) -> None:
        """Note a validation; keep the weights if it is the best so far."""
        best = score.nsdr_db > self.progress.best  # never of NaN, where no stem sounds
        self._advance(step, score.nsdr_db if best else self.progress.best)
        if not self._team.leads:
            return
        by_stem = dict(zip(self._config.model.stems, score.by_stem, strict=True))
        row = {
            "step": step,
            "loss": score.loss,
            "nsdr_db": score.nsdr_db,
            **by_stem,
            "seconds": self.progress.seconds,
            "data_share": self.data_share,
        }
        self._scores.add([row])
        for name, value in {"nsdr_db": score.nsdr_db, **by_stem}.items():
            self._to_board(f"validation/{name}", value, step)
        stems = self._config.model.stems
        draw_curves(self._folder / "curves.png", self._losses, self._scores, stems)
        if best:
            self._save_weights("best", step, score.nsdr_db)

    def save(self, step: int) -> None:
        """Everything that resuming at this step needs."""
        if self._pending:
            self.flush()
        self._advance(step, self.progress.best)
        if self._team.leads:
            self._save_weights("last", step, None)
            save_state(self._folder, self._config, self._model, self._optimizer, self.progress)

    def _advance(self, step: int, best: float) -> None:
        seconds = time.monotonic() - self._begin
        self.progress = replace(self.progress, step=step, best=best, seconds=seconds)

    def _save_weights(self, name: str, step: int, nsdr_db: float | None) -> None:
        notes = {"step": step, "nsdr_db": nsdr_db, "training": as_values(self._config)}
        if self._before is not None:
            notes["before"] = dict(self._before)
        save_checkpoint(self._model, self._folder / f"{name}.safetensors", notes=notes)

    def _to_board(self, name: str, value: Any, step: Any) -> None:
        """TensorBoard shows what the tables hold, so a run does not end where it cannot write."""
        if self._board is None:
            return
        try:
            self._board.add_scalar(name, value, step)
        except OSError as error:
            self._board = None
            print(f"warning: no more TensorBoard: {error.strerror or error}", file=sys.stderr)


def _tensorboard(folder: Path, step: int) -> Any:
    """TensorBoard's writer, None where it is not installed or cannot write."""
    with suppress(ImportError, OSError):
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder), purge_step=step + 1)
    return None


def draw_curves(path: Path, losses: Table, scores: Table, stems: Sequence[str]) -> None:
    """Losses and validation scores of a run against steps. Raises UserError for a full disk."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    steps, loss, validated = losses.column("step"), losses.column("loss"), scores.column("step")
    above.plot(steps, loss, color="0.8", linewidth=0.6)
    above.plot(steps, _running_mean(loss), label=f"training, mean of {_SMOOTH_STEPS} steps")
    above.plot(validated, scores.column("loss"), "o-", markersize=3, label="validation")
    above.set(ylabel="loss, mean over stems", yscale="log")
    above.legend()
    for stem in stems:
        below.plot(validated, scores.column(stem), linewidth=1, label=stem)
    below.plot(validated, scores.column("nsdr_db"), "k", linewidth=2, label="all present stems")
    below.set(xlabel="step", ylabel="validation nSDR in dB")
    below.legend(ncols=3)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    with told(path), whole(path) as part:
        figure.savefig(part, dpi=120, format="png")


def _running_mean(values: list[float]) -> list[float]:
    means = []
    for i in range(len(values)):
        window = values[max(0, i + 1 - _SMOOTH_STEPS) : i + 1]
        means.append(sum(window) / len(window))
    return means
