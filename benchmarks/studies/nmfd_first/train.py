"""Train the corrector on stored examples; resumes from its folder.

Loss: over the stems (and, with less weight, the pieces) that sound, the logarithm of the error
relative to the stem, which is nSDR in the spectrum; a little for what goes into silent ones; and
the onsets of the nine pieces as a second task.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.studies.nmfd_first import kits
from benchmarks.studies.nmfd_first.cells import STEM_ROWS
from benchmarks.studies.nmfd_first.store import FLOOR_DB, Item, read_item
from benchmarks.studies.nmfd_first.validation import read_segments
from larsnet.network.nmfd_net import NmfdNet, NmfdNetConfig
from larsnet.network.protocol import config_to_values
from stemgmd_build.taxonomy import PIECES, STEMS

N_PIECES = len(PIECES)

CEILING = 1e-3
"""Relative error below which a stem is as good as it need be: 30 dB."""

LEAST = 1e-4
"""Share of the mixture's power from which on a stem is said to sound."""


class Batch:
    """Items stacked, as float32 tensors: every second frame, the even or the odd ones.

    That halves the cost and changes little: neighbouring frames overlap by three quarters.
    """

    def __init__(self, items: list[Item], phase: int = 0) -> None:
        self.level_db = torch.from_numpy(np.stack([i.level_db[:, phase::2] for i in items])).float()
        self.side = torch.from_numpy(np.stack([i.side[:, phase::2] for i in items])).float()
        blind = torch.from_numpy(np.stack([i.blind_db[..., phase::2] for i in items])).float()
        self.log_masks = blind * (FLOOR_DB / 240 / 20 * math.log(10))
        self.best = torch.zeros(*self.log_masks.shape)
        for n, item in enumerate(items):
            self.best[n, torch.from_numpy(item.rows)] = torch.from_numpy(
                item.best[..., phase::2]
            ).float()
        self.weight = 10 ** (self.level_db / 10) / self.level_db[0].numel()
        names = ("rest", "power", "stem_rest", "stem_power")
        self.rest, self.power, self.stem_rest, self.stem_power = (
            torch.from_numpy(np.stack([getattr(i, name) for i in items])) for name in names
        )
        n_steps = self.level_db.shape[-1]
        self.onsets = torch.zeros(len(items), N_PIECES, n_steps)
        for n, item in enumerate(items):
            piece, frame = item.hits.T
            self.onsets[n, piece, np.clip(frame // 2, 0, n_steps - 1)] = 1.0


def relative_errors(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Errors of the pieces (batch, 9) and of the stems (batch, 5), against the mixture's power."""
    masks = logits.softmax(dim=1)
    deviations = masks - batch.best
    weight = batch.weight.unsqueeze(1)
    pieces = (deviations.square() * weight).sum(dim=(2, 3)) + batch.rest
    rows = torch.tensor(STEM_ROWS)
    sums = deviations.new_zeros(len(deviations), len(STEMS), *deviations.shape[2:])
    sums = sums.index_add(1, rows, deviations)
    return pieces, (sums.square() * weight).sum(dim=(2, 3)) + batch.stem_rest


def loss_of(logits: Tensor, onsets: Tensor, batch: Batch) -> Tensor:
    pieces, stems = relative_errors(logits, batch)
    return (
        _log_error(stems, batch.stem_power)
        + 0.25 * _log_error(pieces, batch.power)
        + 0.3
        * functional.binary_cross_entropy_with_logits(
            onsets, batch.onsets, pos_weight=torch.tensor(5.0)
        )
    )


def _log_error(error: Tensor, power: Tensor) -> Tensor:
    """Mean over what sounds of the error in nepers (of power), and over what is silent a little."""
    sounds = power > LEAST
    ratio = torch.log(error / power.clamp_min(LEAST) + CEILING)
    leak = torch.log1p(error * 1000) * 0.1
    return torch.where(sounds, ratio, leak).mean()


def disturbed(batch: Batch, rng: np.random.Generator, drop: float) -> None:
    """NMFD's masks as they may also be: missing, with two pieces taken for one another, unsure."""
    for n in range(len(batch.log_masks)):
        draw = rng.random()
        if draw < drop:
            batch.log_masks[n] = -math.log(N_PIECES)
        elif draw < drop + 0.08:
            a, b = rng.choice(N_PIECES, 2, replace=False).tolist()
            batch.log_masks[n, [a, b]] = batch.log_masks[n, [b, a]]
        elif draw < drop + 0.2:
            flat = batch.log_masks[n] * float(rng.uniform(0.3, 1.5))
            batch.log_masks[n] = flat.log_softmax(dim=0).clamp_min(-7)
        if rng.random() < 0.3:  # another side, since the training kits are few
            batch.side[n] *= float(rng.uniform(0, 1.3))


@torch.inference_mode()
def validate(
    network: NmfdNet, items: dict[str, list[tuple[Item, tuple[int, ...]]]], blind: bool = True
) -> dict[str, float]:
    """Mean nSDR in the spectrum over present stems, per kit, and per stem over the unseen."""
    network.eval()
    scores: dict[str, list[list[float]]] = {}
    for kit, rows in items.items():
        for start in range(0, len(rows), 4):
            part = rows[start : start + 4]
            batch = Batch([item for item, _ in part])
            if not blind:
                batch.log_masks[:] = -math.log(N_PIECES)
            logits, _ = network.logits(batch.level_db, batch.side, batch.log_masks)
            _, stems = relative_errors(logits, batch)
            db = (10 * torch.log10(batch.stem_power / stems.clamp_min(1e-12))).tolist()
            for values, (_, present) in zip(db, part, strict=True):
                scores.setdefault(kit, []).append(
                    [v if s in present else math.nan for s, v in enumerate(values)]
                )
    network.train()
    table = {kit: float(np.nanmean(values)) for kit, values in scores.items()}
    unseen = np.array([row for kit in kits.VALIDATION if kit in scores for row in scores[kit]])
    found = {"unseen": float(np.nanmean(unseen))}
    found["known"] = float(np.mean([table[k] for k in table if k not in kits.VALIDATION] or [0]))
    found |= {s: float(v) for s, v in zip(STEMS, np.nanmean(unseen, axis=0), strict=True)}
    return found | table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--minutes", type=float, default=120.0, help="of this call")
    parser.add_argument(
        "--decay-from", type=int, default=0, help="step at which the rate begins to fall"
    )
    parser.add_argument("--steps", type=int, default=0, help="end of the decay")
    parser.add_argument("--every", type=int, default=250, help="steps between validations")
    parser.add_argument("--drop", type=float, default=0.12)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--core", type=int, default=224)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    segments = read_segments(options.validation)
    items: dict[str, list[tuple[Item, tuple[int, ...]]]] = {}
    for segment in segments[::3]:
        items.setdefault(segment.kit, []).append(
            (read_item(options.items / segment.path.name), segment.present)
        )
    torch.manual_seed(1)
    network = NmfdNet(NmfdNetConfig(blocks=options.blocks, core=options.core))
    average = NmfdNet(network.config)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=options.rate, weight_decay=1e-2, betas=(0.9, 0.98)
    )
    step, state = 0, options.out / "state.pt"
    if state.exists():
        kept = torch.load(state, weights_only=True)
        network.load_state_dict({"templates": network.templates, **kept["network"]})
        average.load_state_dict({"templates": network.templates, **kept["average"]})
        optimizer.load_state_dict(kept["optimizer"])
        step = kept["step"]
    else:
        average.load_state_dict(network.state_dict())
        say(
            options.out,
            {
                "step": 0,
                **validate(network, items),
                "parameters": sum(p.numel() for p in network.parameters()),
            },
        )
    began = time.time()
    recent: list[float] = []
    while time.time() - began < 60 * options.minutes and not (
        options.steps and step >= options.steps
    ):
        rng = np.random.default_rng([7, step])
        paths = available(options.examples, step)
        chosen = rng.choice(len(paths), options.batch, replace=False)
        batch = Batch([read_item(paths[i]) for i in chosen], phase=step % 2)
        disturbed(batch, rng, options.drop)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, options)
        logits, onsets = network.logits(batch.level_db, batch.side, batch.log_masks)
        loss = loss_of(logits, onsets, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        recent.append(float(loss.detach()))
        with torch.no_grad():
            keep = min(0.998, step / (step + 20))
            for mean, now in zip(
                average.state_dict().values(), network.state_dict().values(), strict=True
            ):
                if mean.dtype.is_floating_point:
                    mean.lerp_(now, 1 - keep)
                else:
                    mean.copy_(now)
        if step % 50 == 0:
            pace = (time.time() - began) / len(recent)
            told = f"{step}: loss {np.mean(recent[-50:]):.3f}, {pace:.2f} s per step"
            print(f"{told}, {len(paths)} examples", flush=True)
        if step % options.every == 0:
            row = {
                "step": step,
                "loss": float(np.mean(recent[-options.every :])),
                "examples": len(paths),
                "seconds": round(time.time() - began),
                **validate(average, items),
            }
            say(options.out, row)
            save(state, network, average, optimizer, step)
    save(state, network, average, optimizer, step)
    say(options.out, {"step": step, "alone": validate(average, items, blind=False)})


_paths: dict[Path, tuple[int, list[Path]]] = {}


def available(folder: Path, step: int) -> list[Path]:
    """Examples made so far; looked up anew every 50 steps, since they are made meanwhile."""
    at, paths = _paths.get(folder, (-1000, []))
    if step - at >= 50:
        paths = sorted(folder.glob("*.npz"))
        _paths[folder] = (step, paths)
    return paths


def rate_at(step: int, options: argparse.Namespace) -> float:
    """Warm, then constant, then falling to a fiftieth."""
    rate: float = options.rate * min(1.0, (step + 1) / 200)
    if options.steps and step > options.decay_from:
        done = (step - options.decay_from) / max(options.steps - options.decay_from, 1)
        rate *= max(0.02, 1 - done)
    return rate


def save(
    path: Path, network: NmfdNet, average: NmfdNet, optimizer: torch.optim.Optimizer, step: int
) -> None:
    waiting = path.with_suffix(".new")
    torch.save(
        {
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "settings": config_to_values(network.config),
        },
        waiting,
    )
    waiting.replace(path)


def say(folder: Path, row: Mapping[str, object]) -> None:
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(rounded) + "\n")
    print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
