"""LarsNet as an entry of the leaderboard: with the packaged weights, or with a checkpoint's."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from baselines import learn
from baselines.checks import checked_mixture
from baselines.system import Audio, Inputs, System, SystemInfo
from larsnet.network.checkpoint import load_checkpoint, read_info
from larsnet.network.protocol import n_parameters
from larsnet.network.weights import NMFD_NET_WEIGHTS, default_weights
from larsnet.separation import refinement
from larsnet.separation.inference import Separator
from larsnet.separation.models import MODELS, NMFD_NET
from larsnet.separation.waveforms import (
    SeparationOptions,
    make_separator,
    separate_blocks,
)
from larsnet.training.config import TrainConfig, train_config
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEM_OF_PIECE, STEMS

VERSION: Final = "2"
"""Goes up whenever the code, not the weights, may give other stems."""


@dataclass(frozen=True)
class LarsnetSystem:
    """A LarsNet, with or without the alpha-Wiener filter, refined by NMFD or not."""

    info: SystemInfo
    separator: Separator

    def separate(self, inputs: Inputs) -> Audio:
        """See :class:`baselines.system.System`. Raises UserError for inputs that do not fit."""
        mixture = checked_mixture(inputs)
        stems = np.zeros((len(STEMS), *mixture.shape), np.float32)
        done = 0
        for run in separate_blocks(self.separator, [mixture], SAMPLE_RATE):
            part = slice(done, done + run.shape[-1])
            for name, samples in zip(self.separator.stems, run, strict=True):
                stems[STEMS.index(STEM_OF_PIECE.get(name, name)), :, part] += samples
            done += run.shape[-1]
        return stems


def make_packaged(model_id: str, device: str = "cpu") -> System:
    """A network of :data:`larsnet.separation.models.MODELS`.

    Raises UserError where its weights or the device are not there.
    """
    model = (MODELS | NMFD_NET)[model_id]
    return make_larsnet(
        default_weights(model.weights),
        id=model_id,
        name=model.name,
        licence="MIT",
        device=device,
        wiener=model.wiener,
        refine=model.refine,
    )


make_larsnet_small = functools.partial(make_packaged, "larsnet-small")
make_larsnet_small_wiener = functools.partial(make_packaged, "larsnet-small-wiener")
make_larsnet_small_nmfd = functools.partial(make_packaged, "larsnet-small-nmfd")
make_nmfd_net = functools.partial(make_packaged, "nmfd-net")
make_nmfd_net_fitted = functools.partial(make_packaged, "nmfd-net-fitted")


def make_larsnet(
    path: Path,
    *,
    id: str,
    name: str,
    licence: str,
    device: str = "cpu",
    wiener: float | None = None,
    refine: bool = False,
) -> System:
    """A checkpoint of `stemgmd train` under an id and a name of its own.

    What it was trained on is told from the checkpoint. Raises UserError where the file is no
    checkpoint or the device is not there.
    """
    saved, model = read_info(path), load_checkpoint(path)
    strange = [name for name in model.config.stems if name not in {*STEMS, *STEM_OF_PIECE}]
    if strange:
        raise UserError(f"{path} has a stem {strange[0]!r}, which is not scored")
    runs = tuple(_runs(saved.notes))
    kits = tuple(dict.fromkeys(kit for config, _ in runs for kit in _kit_ids(config.kits)))
    more = "" if wiener is None else f", alpha-Wiener filter of {wiener:g}"
    told = _trained_on(runs, len(kits)) if runs else "not stated"
    if path == NMFD_NET_WEIGHTS:  # of a study, which is no run of `stemgmd train`
        told, kits = str(saved.notes["trained_on"]), tuple(saved.notes["kits"])
    info = SystemInfo(
        id=id,
        name=name,
        inputs=("mixture",),
        revision=f"{VERSION}-{saved.sha256[:10]}",
        trained_on=told,
        n_parameters=n_parameters(model),
        licence=licence,
        summary=f"{model.summary}{more}",
        kits_seen=kits,
    )
    threads = torch.get_num_threads()
    options = SeparationOptions(wiener=wiener, device=device, n_threads=threads, refine=refine)
    return LarsnetSystem(_refined(info) if refine else info, make_separator(model, options))


def _refined(info: SystemInfo) -> SystemInfo:
    """What refinement adds: templates, and what they were learnt from."""
    learnt = learn.load(refinement.RECIPE)
    facts = (refinement.STEM_STEPS, refinement.MIXTURE_STEPS, refinement.SILENCE)
    known = f"{facts}|{refinement.MASK_EXPONENT}|{refinement.BLOCKS}|{learnt.digest}"
    return replace(
        info,
        revision=f"{info.revision}-{hashlib.sha256(known.encode()).hexdigest()[:10]}",
        trained_on=f"{info.trained_on}; one-shots of the training kits",
        n_parameters=info.n_parameters + learnt.templates.values.numel(),
        summary=f"{info.summary}; its stems start an NMFD that is fitted to the recording",
        kits_seen=tuple(dict.fromkeys((*info.kits_seen, *learnt.kits))),
    )


def _runs(notes: Mapping[str, Any] | None) -> Iterator[tuple[TrainConfig, int]]:
    """The run that made a checkpoint and its steps, then the one it started from, and so on.

    Notes of another program say nothing that is understood.
    """
    while notes:
        try:
            yield train_config(notes["training"]), int(notes["step"])
            notes = notes.get("before")
        except (KeyError, ValueError, TypeError, AttributeError):
            return


def _kit_ids(names: Sequence[str]) -> Iterator[str]:
    """Sets resolved; your own kit stays as it was named.

    The names come with a checkpoint, perhaps a stranger's: no path among them is opened.
    """
    from stemgmd_build.kits.catalogue import KIT_SETS, select_kits

    for name in names:
        if name in KIT_SETS:
            yield from (kit.id for kit in select_kits([name]))
        else:
            yield Path(name).name


def _trained_on(runs: Sequence[tuple[TrainConfig, int]], n_kits: int) -> str:
    steps = sum(step for _, step in runs)
    samples = sum(step * config.batch * config.n_samples for config, step in runs)
    hours = samples / SAMPLE_RATE / 3600
    splits = " and ".join(dict.fromkeys(config.split for config, _ in reversed(runs)))
    n_virtual = sum(config.virtual_kits for config, _ in runs)
    kits = f"{n_kits} kits" + (f" and {n_virtual} virtual ones" if n_virtual else "")
    return f"GMD's {splits} split on {kits}, {steps:,} steps, {hours:,.0f} h of audio"
