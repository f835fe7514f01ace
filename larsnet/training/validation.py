"""How well a network in training separates: GMD's validation split, on training kits.

The score is nSDR as the Music Demixing Challenge defines it (energies are sums), pooled over all
stems that sound in a segment: not what the leaderboard reports, whose kits are others, but what the
best checkpoint is chosen by. Kits of the test split are refused: nothing is chosen by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from baselines.spectral import istft, stft
from larsnet.network.protocol import MaskNetwork
from larsnet.training.config import TrainConfig
from larsnet.training.device_player import DevicePlayer, player_on
from larsnet.training.distributed import Team
from larsnet.training.segments import Plan, Player, read_segments
from stemgmd_build.dataset.select import choose_kits, load_banks
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import Bank

_EPSILON: Final = 1e-7
_SEED: Final = 1_000_045
"""Of the segments; the same for every run, so that runs of different seeds can be compared."""


@dataclass(frozen=True)
class Score:
    """``loss``: mean over stems; ``nsdr_db``: mean over present stems, ``by_stem`` each."""

    loss: float
    nsdr_db: float
    by_stem: tuple[float, ...]


@dataclass(frozen=True)
class Held:
    """What a run is validated on: plans, and the kits that play them."""

    plans: tuple[Plan, ...]
    player: Player | DevicePlayer
    n_samples: int


def hold(
    config: TrainConfig, collection: Collection, device: torch.device, heard: Sequence[Bank]
) -> Held:
    """A run's validation segments: as long as separation's patches, without augmentation.

    Args:
        config: the run.
        collection: with a validation split.
        device: that plays them.
        heard: the kits trained on, which serve where ``config`` names no others.

    Raises:
        UserError: a kit that is missing, broken, or held out for the leaderboard.
    """
    for kit in choose_kits(config.validation_kits or config.kits):
        if kit.split == "test":
            raise UserError(
                f"{kit.id} is held out for the leaderboard, nothing is chosen by it: name other "
                "validation_kits"
            )
    banks = list(heard)
    if config.validation_kits is not None:
        banks = load_banks(config.validation_kits, collection)
    n_samples = (config.model.window_frames - 1) * config.model.stft.hop_samples
    segments = read_segments(
        collection, "validation", banks, n_samples, None, _SEED, config.limit, config.model.stems
    )
    plans = tuple(segments.plan(index) for index in range(config.validation_segments))
    return Held(plans, player_on(banks, device), n_samples)


@torch.no_grad()
def validate(model: MaskNetwork, held: Held, team: Team) -> Score:
    """Score the model on what was held back; the team shares the work."""
    n_samples = held.n_samples
    was_training = model.training
    model.eval()
    n_stems = len(model.config.stems)
    # loss, number of segments, then for each stem nSDR and in how many segments it sounds
    sums = torch.zeros(2 + 2 * n_stems, dtype=torch.float64, device=team.device)
    for plan in held.plans[team.rank :: team.size]:
        stems = held.player.play([plan], n_samples)
        mixture = stems.sum(dim=1)
        cells = stft(mixture, model.config.stft)
        masks = model.masks_of(cells, model.prepare(mixture))
        estimates = istft(masks[0] * cells[0], model.config.stft, n_samples)
        present = stems[0].abs().amax(dim=(1, 2)) > 0
        sums[0] += model.losses(model.examples(stems)).mean()
        sums[1] += 1
        sums[2 : 2 + n_stems] += torch.where(present, _nsdr_db(stems[0], estimates), 0.0)
        sums[2 + n_stems :] += present
    loss, n_segments, *rest = team.sum(sums).tolist()
    model.train(was_training)
    totals, counts = rest[:n_stems], rest[n_stems:]
    by_stem = [t / n if n else float("nan") for t, n in zip(totals, counts, strict=True)]
    return Score(loss / max(n_segments, 1), sum(totals) / max(sum(counts), 1), tuple(by_stem))


def _nsdr_db(reference: Tensor, estimate: Tensor) -> Tensor:
    """(stems,) in dB of (stems, 2, samples); see :mod:`benchmarks.scores.metrics`."""
    signal = reference.double().square().sum(dim=(1, 2))
    error = (reference - estimate).double().square().sum(dim=(1, 2))
    return 10 * torch.log10((signal + _EPSILON) / (error + _EPSILON))
