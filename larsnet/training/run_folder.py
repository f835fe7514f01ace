"""The folder of a training run: what is needed to go on, and what people look at.

``state.safetensors``  weights, optimizer, step and configuration: all that resuming needs
``best.safetensors``, ``last.safetensors``  weights as `stemgmd separate --weights` reads them
``losses.csv``, ``validation.csv``, ``curves.png``, ``tensorboard/``  the curves

Each file is written whole or not at all. There is no random state to keep: what is random at a
step follows from the seed and the step's number. Rows of the tables that lie behind the state
that a run resumes from are dropped, since they are made again.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from larsnet.network.checkpoint import load_exactly, write_told
from larsnet.network.protocol import MaskNetwork
from larsnet.training.config import TrainConfig, as_values, train_config
from stemgmd_build.errors import UserError

_FORMAT: Final = "larsnet-run-1"
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
    header = {
        "format": _FORMAT,
        "config": json.dumps(as_values(config), sort_keys=True),
        "step": str(progress.step),
        "best": repr(progress.best),
        "seconds": repr(progress.seconds),
    }
    write_told(folder / "state.safetensors", save(tensors, metadata=header))


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
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("format") != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT}")
        # Read as a configuration: what has come to be settable since is at its default.
        given = _plain(train_config(json.loads(header["config"])))
        progress = Progress(int(header["step"]), float(header["best"]), float(header["seconds"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be resumed from ({' '.join(str(error).split())}); "
            "delete it to begin anew"
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
    """A CSV file that grows by rows; those behind ``last_step`` are dropped at the start."""

    def __init__(self, path: Path, columns: Sequence[str], last_step: int) -> None:
        self._path, self._columns = path, list(columns)
        rows = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    with suppress(KeyError, TypeError, ValueError):
                        if int(row["step"]) <= last_step:
                            rows.append([row[column] for column in columns])
        lines = [",".join(map(str, row)) for row in (self._columns, *rows)]
        write_told(path, ("\n".join(lines) + "\n").encode())

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows, in one write."""
        lines = [",".join(_number(row[column]) for column in self._columns) for row in rows]
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"
