"""The training loop: `train` makes or resumes a run.

The recipe is LarsNet's (arXiv 2312.09663, section 4): segments rendered from MIDI, six
augmentations, L1 on magnitudes, Adam; what differs is in the configuration's file. A step's
examples, dropout and learning rate follow from seed and step alone, so that a run that was killed
and is resumed goes through the very same losses.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Final

import torch
from torch import Tensor
from tqdm import tqdm

from larsnet.network.checkpoint import CheckpointInfo, load_checkpoint, read_info
from larsnet.network.devices import is_out_of_memory
from larsnet.network.protocol import Batch
from larsnet.network.tensors import load_exactly
from larsnet.training.batches import Plans, mixed_anew, planned, played
from larsnet.training.config import TrainConfig
from larsnet.training.device_player import DevicePlayer, player_on
from larsnet.training.distributed import Team
from larsnet.training.learner import Learner
from larsnet.training.record import Record
from larsnet.training.run_folder import Progress, resume
from larsnet.training.segments import Player, Segments, read_segments
from larsnet.training.validation import Held, Score, hold, validate
from larsnet.training.virtual_kits import with_virtual_kits
from stemgmd_build.dataset.select import load_banks
from stemgmd_build.errors import UserError
from stemgmd_build.files import locked
from stemgmd_build.performances.collection import Collection
from stemgmd_build.performances.gmd import find_collection
from stemgmd_build.processes import usable_cpus
from stemgmd_build.progress import progress

LOG_EVERY: Final = 25
_MOST_WORKERS: Final = 12


@dataclass
class _Run:
    """What the loop works with."""

    config: TrainConfig
    team: Team
    learner: Learner
    segments: Segments
    player: Player | DevicePlayer
    held: Held
    played: dict[int, Tensor] = field(default_factory=dict)  # the stems of each part of a batch

    def synchronize(self) -> float:
        """Wait for the device; the time then."""
        if self.team.device.type == "cuda":
            torch.cuda.synchronize(self.team.device)
        return time.perf_counter()


@dataclass(frozen=True)
class TrainResult:
    """``score``: of the last validation; ``data_share``: of the time, spent waiting for data."""

    progress: Progress
    score: Score | None
    data_share: float


def train(
    config: TrainConfig,
    folder: Path,
    team: Team,
    gmd: Path | None = None,
    init: Path | None = None,
) -> TrainResult:
    """Train until ``config.steps``, from the start or from where the run in ``folder`` stands.

    Args:
        config: the run.
        folder: where its files are (:mod:`larsnet.training.run_folder`).
        team: this process and its device (:mod:`larsnet.training.distributed`).
        gmd: the Groove MIDI Dataset's folder; default: where `stemgmd gmd` finds it.
        init: weights to start from (fine-tuning); default: random ones. The optimizer starts anew.

    Raises:
        UserError: no performances or kits, the folder holds another run or is being written by
            one, weights that are damaged or of another model or not those that ``config`` asks
            for, no room to write, a loss that is no number any more, memory that does not suffice.
        KeyboardInterrupt: after the step that it was pressed in, whose state is saved.
    """
    n_part = config.batch // config.accumulate
    if n_part % team.size:
        raise UserError(f"a batch of {n_part} cannot be shared evenly by {team.size} processes")
    with locked(folder, "training run") if team.leads else nullcontext():
        start = None if init is None else read_info(init)
        config = _with_start(config, start, init)
        run = _prepare(config, team, find_collection(gmd))
        if init is not None:
            load_exactly(run.learner.model, load_checkpoint(init).state_dict(), str(init))
        model, optimizer = run.learner.model, run.learner.optimizer
        progress = resume(folder, config, model, optimizer)
        before = None if start is None else start.notes
        record = Record(folder, config, team, model, optimizer, progress, before)
        with _asked_to_stop() as stop:
            try:
                return _loop(run, record, stop)
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error):
                    raise UserError(
                        f"out of memory on {team.device}; a larger --accumulate needs less"
                    ) from error
                raise


def _with_start(
    config: TrainConfig, start: CheckpointInfo | None, init: Path | None
) -> TrainConfig:
    """The configuration, which then names the weights that the run starts from."""
    digest = None if start is None else start.sha256
    if config.init_sha256 not in (None, digest):
        raise UserError(
            f"this configuration starts from weights whose hash is {config.init_sha256}, "
            f"not from {init or 'random ones'}; name their file with --init"
        )
    return replace(config, init_sha256=digest)


def _prepare(config: TrainConfig, team: Team, collection: Collection) -> _Run:
    learner = Learner(config, team)
    banks = load_banks(config.kits, collection)
    voices = with_virtual_kits(banks, config.virtual_kits, config.virtual_share, config.seed)
    heard = read_segments(
        collection,
        config.split,
        voices,
        config.n_samples,
        config.augment,
        config.seed,
        config.limit,
        config.model.stems,
    )
    held = hold(config, collection, team.device, banks)
    return _Run(config, team, learner, heard, player_on(voices, team.device), held)


def _loop(run: _Run, record: Record, stop: list[bool]) -> TrainResult:
    config, first = run.config, record.progress.step
    parts = planned(run.segments, _parts(config, run.team, first), _n_workers(run.team))
    score: Score | None = None
    begin = time.monotonic()
    with progress(
        total=config.steps,
        initial=first,
        desc="training",
        unit="steps",
        disable=not run.team.leads,
    ) as bar:
        for step in range(first, config.steps):
            done, ends = step + 1, step + 1 == config.steps
            _step(run, step, parts, record)
            bar.update()
            if done % LOG_EVERY == 0 or ends:
                bar.set_postfix_str(f"loss {record.flush():.4f}")
            if done % config.validate_every == 0 or ends:
                with torch.compiler.set_stance("force_eager"):  # not worth compiling: few, longer
                    score = validate(run.learner.model, run.held, run.team)
                record.validated(done, score)
                if run.team.leads:
                    left_sec = (time.monotonic() - begin) / (done - first) * (config.steps - done)
                    bar.write(
                        f"step {done:,} of {config.steps:,}: validation nSDR "
                        f"{score.nsdr_db:.2f} dB, {tqdm.format_interval(left_sec)} left"
                    )
            stops = _all_stop(run.team, stop[0], done)
            if stops or done % config.checkpoint_every == 0 or ends:
                record.save(done)
            if stops:
                raise KeyboardInterrupt
    return TrainResult(record.progress, score, record.data_share)


def _n_workers(team: Team) -> int:
    """Processes that plan. None on a CPU: they would take cores from the networks."""
    if team.device.type == "cpu":
        return 0
    return max(1, min(_MOST_WORKERS, usable_cpus() // team.size - 1))


def _parts(config: TrainConfig, team: Team, first: int) -> Iterator[range]:
    """Indices of the examples of this process, part by part, from step ``first`` on."""
    n_part = config.batch // config.accumulate
    n_own = n_part // team.size
    for batch in range(first // config.uses, -(-config.steps // config.uses)):
        for part in range(config.accumulate):
            start = batch * config.batch + part * n_part + team.rank * n_own
            yield range(start, start + n_own)


def _step(run: _Run, step: int, parts: Iterator[Plans], record: Record) -> None:
    """One step of the optimizer."""
    config, team = run.config, run.team
    torch.manual_seed((config.seed << 40) + step * team.size + team.rank)  # for dropout
    weights = torch.tensor(config.stem_weights or [1.0] * len(config.model.stems))
    weights = weights.to(team.device)
    rate = config.learning_rate_at(step)
    for group in run.learner.optimizer.param_groups:
        group["lr"] = rate
    run.learner.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros_like(weights)
    is_timed = step % LOG_EVERY == 0  # now and then: waiting for a GPU costs time itself
    data_sec, begin = 0.0, run.synchronize() if is_timed else 0.0
    for part in range(config.accumulate):
        asked = time.perf_counter()
        batch = _batch(run, step, part, parts)
        if is_timed:
            data_sec += run.synchronize() - asked
        with run.learner.gradients_stay_here(part + 1 < config.accumulate):
            found = run.learner.losses(batch) / config.accumulate
            torch.autograd.backward((found * weights).sum())
        total += found.detach()
    run.learner.optimizer.step()
    if is_timed:
        record.timed(data_sec, run.synchronize() - begin)
    record.add(step + 1, rate, total)


@torch.no_grad()
def _batch(run: _Run, step: int, part: int, parts: Iterator[Plans]) -> Batch:
    """A part of a step's batch: played, or the last one's stems once more, in other mixtures."""
    again = step % run.config.uses
    if again and part in run.played:
        stems = run.played[part]
    else:
        stems = played(run.player, next(parts), run.config.n_samples)
    if run.config.uses > 1:
        run.played[part] = stems
    if again:
        place = (step * run.config.accumulate + part) * run.team.size + run.team.rank
        stems = mixed_anew(stems, (run.config.seed << 40) + place)
    return run.learner.model.examples(stems)


def _all_stop(team: Team, asked: bool, done: int) -> bool:
    """Whether to stop after this step: several processes agree on it, now and then."""
    if team.size == 1:
        return asked
    if done % LOG_EVERY:
        return False
    return bool(team.sum(torch.tensor(float(asked), device=team.device)))


@contextmanager
def _asked_to_stop() -> Iterator[list[bool]]:
    """Whether Ctrl-C was pressed: the step is finished and saved first. Twice: at once."""
    stop = [False]

    def ask(number: int, frame: FrameType | None) -> None:
        if stop[0]:
            raise KeyboardInterrupt
        stop[0] = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
