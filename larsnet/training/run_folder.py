"""The folder of a training run: what is needed to go on, and what people look at.

``state.safetensors``  weights, optimizer, step and configuration: all that resuming needs
``best.safetensors``, ``last.safetensors``  weights as `stemgmd separate --weights` reads them
``losses.csv``, ``validation.csv``, ``curves.png``, ``tensorboard/``  the curves

Each file is written whole or not at all, and the state is resumed from only where its hash agrees.
There is no random state to keep: what is random at a
step follows from the seed and the step's number. Rows of the tables that lie behind the state
that a run resumes from are dropped, since they are made again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from larsnet.network.protocol import MaskNetwork
from larsnet.network.tensors import load_exactly, read_header, read_tensors, write_tensors
from larsnet.training.config import TrainConfig, as_values, train_config
from stemgmd_build.errors import UserError
from stemgmd_build.files import read_bytes, write_whole

_FORMAT: Final = "larsnet-run-2"
_MAY_CHANGE: Final = ("steps", "decay_steps", "validate_every", "checkpoint_every", "compile")
_MOMENTS: Final = ("exp_avg", "exp_avg_sq", "step")

Row = Mapping[str, float | int]


@dataclass(frozen=True)
class Progress:
    """Where a run stands. ``best``: highest validation score so far, ``seconds``: spent on it."""

    step: int = 0
    best: float = float("-inf")
    seconds: float = 0.0


def trainable(model: MaskNetwork) -> dict[str, torch.nn.Parameter]:
    """The parameters that anything depends on, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_state(
    folder: Path,
    config: TrainConfig,
    model: MaskNetwork,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write what resuming needs. Raises UserError where it cannot be written."""
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    for name, parameter in trainable(model).items():
        for moment in _MOMENTS:
            if moment in optimizer.state[parameter]:
                value = optimizer.state[parameter][moment].detach().cpu()
                tensors[f"{moment}.{name}"] = value.contiguous()
    run = {
        "config": as_values(config),
        "step": progress.step,
        "best": repr(progress.best),  # JSON has no infinity
        "seconds": progress.seconds,
    }
    header = {"format": _FORMAT, "run": json.dumps(run, sort_keys=True)}
    write_tensors(folder / "state.safetensors", tensors, header, hashed="run")


def resume(
    folder: Path, config: TrainConfig, model: MaskNetwork, optimizer: torch.optim.Optimizer
) -> Progress:
    """Take up the run in ``folder``; at its start if there is none.

    Raises:
        UserError: the folder holds another run, or its state is damaged.
    """
    path = folder / "state.safetensors"
    if not path.exists():
        return Progress()
    try:
        if (found := read_header(path).get("format")) != _FORMAT:
            raise ValueError(f"its format is {found!r}, not {_FORMAT!r}")
        header, tensors = read_tensors(path, hashed="run")
        run = json.loads(header["run"])
        # Read as a configuration: what has come to be settable since is at its default.
        given = _plain(train_config(run["config"]))
        progress = Progress(int(run["step"]), float(run["best"]), float(run["seconds"]))
    except (UserError, LookupError, ArithmeticError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()).removeprefix(f"{path} ")
        raise UserError(
            f"{path} cannot be resumed from ({reason}); delete it to begin anew, from "
            "last.safetensors with --init if that is whole"
        ) from error
    _require_same_run(path, given, _plain(config))
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    load_exactly(model, weights, str(path))
    _load_moments(path, optimizer, model, tensors)
    return progress


def _plain(config: TrainConfig) -> dict[str, Any]:
    """As JSON holds it."""
    values: dict[str, Any] = json.loads(json.dumps(as_values(config)))
    return values


def _require_same_run(path: Path, given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key in sorted(wanted):
        if key not in _MAY_CHANGE and given.get(key) != wanted[key]:
            raise UserError(
                f"{path.parent} holds another run: its {key} is different; "
                "name another folder with --out, or delete this one"
            )


def _load_moments(
    path: Path,
    optimizer: torch.optim.Optimizer,
    model: MaskNetwork,
    tensors: Mapping[str, Tensor],
) -> None:
    for name, parameter in trainable(model).items():
        moments = {m: tensors[f"{m}.{name}"] for m in _MOMENTS if f"{m}.{name}" in tensors}
        if not moments:
            continue
        if any(m not in moments for m in _MOMENTS) or moments["exp_avg"].shape != parameter.shape:
            raise UserError(f"{path} is damaged at {name}; delete it to begin anew")
        optimizer.state[parameter] = {
            m: v.clone() if m == "step" else v.to(parameter.device) for m, v in moments.items()
        }


class Table:
    """A CSV file that grows by rows, and the same rows in memory.

    Rows behind ``last_step`` are dropped at the start, and so is what a crash has torn.
    """

    def __init__(self, path: Path, columns: Sequence[str], last_step: int) -> None:
        self._path, self._columns = path, list(columns)
        self.rows = [row for row in _whole_rows(path, columns) if row["step"] <= last_step]
        text = "".join([",".join(self._columns) + "\n", *map(self._line, self.rows)])
        with told(path):
            write_whole(path, text)

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows: all of them, or none where the disk is full. Raises UserError then."""
        data = "".join(map(self._line, rows)).encode()
        with told(self._path), self._path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(before)
                raise
        self.rows += rows

    def column(self, name: str) -> list[float]:
        """The values of a column."""
        return [float(row[name]) for row in self.rows]

    def _line(self, row: Row) -> str:
        return ",".join(_number(row[column]) for column in self._columns) + "\n"


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Say in one line that ``path`` cannot be written: a UserError for an OSError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def _whole_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a table that hold a number in every column."""
    if not path.exists():
        return
    lines = read_bytes(path, "table").decode(errors="replace").splitlines(keepends=True)
    names = lines[0].strip().split(",") if lines else []
    for line in lines[1:]:
        values = line.rstrip("\n").split(",")
        if not line.endswith("\n") or len(values) != len(names):
            continue
        with suppress(ValueError, KeyError):
            row = dict(zip(names, values, strict=True))
            numbers = {column: float(row[column]) for column in columns}
            yield {**numbers, "step": int(row["step"])}


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"
