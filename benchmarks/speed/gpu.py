"""LarsNet on a GPU: ``stemgmd speed gpu --device cuda``.

Training: how long a batch is planned, played and analysed, and how long the nets take for a step
on it, each alone and after warming up; how far what is played there is from what a CPU plays.
Separation: the masks of nets that take turns and of nets that are one batch, the real-time ratio of
the paper's nets (random weights) and of the packaged ones, and how far the packaged ones' stems are
from the CPU's. Every figure is a median; the batches are those of the configuration.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.speed.larsnet import make_mixture, make_model
from benchmarks.timing import device_name, measure_speed
from larsnet.network.devices import usable_device
from larsnet.network.larsnet import LARSNET, LarsNet
from larsnet.network.protocol import create
from larsnet.network.weights import load_weights
from larsnet.separation.inference import Separator
from larsnet.training.batches import Plans, planned
from larsnet.training.config import TrainConfig, load_config
from larsnet.training.device_player import DevicePlayer, tabulate
from larsnet.training.distributed import Team
from larsnet.training.learner import Learner
from larsnet.training.segments import Player, read_segments
from larsnet.training.virtual_kits import with_virtual_kits
from stemgmd_build.dataset.select import load_banks
from stemgmd_build.errors import UserError
from stemgmd_build.performances.gmd import find_collection

_N_TABLES = 8
"""Different batches to take turns, so that no cache holds what is played."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="stemgmd speed gpu",
        description="LarsNet's training and separation on a device",
    )
    parser.add_argument("--device", default="cuda", help="such as cuda (default) or cpu")
    parser.add_argument("--config", default="larsnet-medium", help="of a run: a name or a file")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=8, help="processes that plan")
    parser.add_argument("--seconds", type=float, default=60.0, help="of audio to separate")
    parser.add_argument("--small", action="store_true", help="leave the paper's nets out")
    parser.add_argument("--gmd", type=Path, help="the Groove MIDI Dataset")
    options = parser.parse_args(argv)
    try:
        device = usable_device(options.device)
        print(f"{device_name(options.device)}, torch {torch.__version__}")
        config = load_config(options.config)
        _training(config, device, options.rounds, options.workers, options.gmd)
        if not options.small:
            for config in (replace(paper := load_config("larsnet"), compile=False), paper):
                what = "compiled" if config.compile else "eager"
                seconds = _step_seconds(config, device, options.rounds)
                _say(f"a step of the paper's nets, 24 segments of 11.9 s, {what}", seconds)
        _separation(device, options.seconds, options.rounds, paper=not options.small)
    except UserError as error:
        print(f"benchmarks.speed.gpu: error: {error}", file=sys.stderr)
        return 2
    return 0


def _training(
    config: TrainConfig, device: torch.device, rounds: int, n_workers: int, gmd: Path | None
) -> None:
    collection = find_collection(gmd)
    voices = with_virtual_kits(
        load_banks(config.kits, collection), config.virtual_kits, config.virtual_share, config.seed
    )
    data = read_segments(
        collection, config.split, voices, config.n_samples, config.augment, config.seed
    )
    n_batches = max(_N_TABLES, 2 * rounds)
    parts = [range(i * config.batch, (i + 1) * config.batch) for i in range(n_batches)]
    begin = time.perf_counter()
    tables: list[Plans] = []
    for table in planned(data, parts, n_workers):
        if not tables:  # the processes have started
            begin = time.perf_counter()
        tables.append(table)
    _say(f"planning a batch, {n_workers} processes", (time.perf_counter() - begin) / n_batches)
    player = DevicePlayer(voices, device)
    dry = replace(config.augment, reverb=0.0)  # a room's noise is the device's own
    plain = read_segments(collection, config.split, voices, config.n_samples, dry, config.seed)
    plans = [plain.plan(index) for index in range(4)]
    here = Player(voices, torch.device("cpu")).play(plans, config.n_samples)
    there = player.play(tabulate(plans), config.n_samples).cpu()
    print(f"{float((here - there).abs().max()):.1e}  largest difference to the CPU's stems")
    turns = cycle(tables[:_N_TABLES])

    def play() -> torch.Tensor:
        table = next(turns)
        assert not isinstance(table, list)
        return player.play(table, config.n_samples)

    _say(f"playing a batch of {config.batch}", _seconds(play, device, rounds))
    model, stems = create(config.model).to(device), play()
    _say("analysing it", _seconds(lambda: model.examples(stems), device, rounds))
    _say("a step of the nets on it", _step_seconds(config, device, rounds))


def _step_seconds(config: TrainConfig, device: torch.device, rounds: int) -> float:
    """One step of the optimizer on noise that lies there already."""
    learner = Learner(config, Team(0, 1, device))
    shape = (config.batch, len(config.model.stems), 2, config.n_samples)
    batch = learner.model.examples(torch.rand(shape, device=device))

    def step() -> None:
        learner.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(learner.losses(batch).sum())
        learner.optimizer.step()

    return _seconds(step, device, rounds)


def _separation(device: torch.device, seconds: float, rounds: int, *, paper: bool) -> None:
    mixture = make_mixture(seconds)
    packaged = load_weights()
    assert isinstance(packaged, LarsNet)
    models = {"the packaged nets": packaged}
    if paper:
        models["the paper's nets"] = make_model(LARSNET)
    for name, model in models.items():
        _arrangements(name, model, device, rounds)
        separator = Separator(model, device=device)
        speed = measure_speed(
            separator.separate, mixture.to(device), device=str(device), n_runs=rounds
        )
        memory = speed.peak_device_memory_bytes
        held = "" if memory is None else f", {memory / 1e9:.1f} GB"
        print(f"{speed.real_time_ratio:7.0f}  times real time: {name}{held}")
    there = Separator(packaged, device=device).separate(mixture.to(device)).cpu()
    here = Separator(packaged, device="cpu").separate(mixture)
    print(f"{float((here - there).abs().max()):.1e}  largest difference to the CPU's")


@torch.no_grad()
def _arrangements(name: str, model: LarsNet, device: torch.device, rounds: int) -> None:
    """Masks of eight patches by nets that take turns, as here, and by nets that are one batch."""
    model = deepcopy(model).to(device).eval()
    nets = [model.net(stem) for stem in model.config.stems]
    cells = (2, model.config.n_bins, model.config.unet.n_frames)
    seen = model.net_input(torch.rand(8, *cells, device=device))
    parameters, buffers = stack_module_state(cast("list[torch.nn.Module]", nets))
    base = deepcopy(nets[0]).to("meta")

    def one(own: dict[str, Tensor], kept: dict[str, Tensor]) -> Tensor:
        masks: Tensor = functional_call(base, (own, kept), (seen,))
        return masks

    together = vmap(one)
    _say(f"masks by {name}, in turns", _seconds(lambda: [n(seen) for n in nets], device, rounds))
    seconds = _seconds(lambda: together(parameters, buffers), device, rounds)
    _say(f"masks by {name}, as one batch", seconds)


def _seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """The median of some rounds, after two that do not count."""
    found = []
    for _ in range(rounds + 2):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - begin)
    return statistics.median(found[2:])


def _say(what: str, seconds: float) -> None:
    print(f"{1000 * seconds:7.1f}  ms: {what}")
