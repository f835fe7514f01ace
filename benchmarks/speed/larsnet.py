"""Speed of LarsNet's separation: ``stemgmd speed larsnet``.

It stands beside the original arrangement: five float32 nets one after another on the whole
file, each with a transform of its own (magnitude and phase), all patches as one batch, in
torch's default layout. Ours is :class:`larsnet.separation.inference.Separator`. Both separate the
same noise bursts with the same random weights, normalizations included, take turns, and the
median is taken, so that what else the machine does hits both alike. The largest difference of
any sample is printed, in full scale.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.spectral import istft, stft
from larsnet.network.larsnet import LARSNET, LarsNet, LarsnetConfig
from larsnet.separation.inference import Separator
from stemgmd_build.taxonomy import SAMPLE_RATE


def make_model(config: LarsnetConfig) -> LarsNet:
    """A bank whose random weights make masks of all values: nothing in it is at its start."""
    torch.manual_seed(0)
    model = LarsNet(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model.eval()


def make_mixture(duration_sec: float) -> Tensor:
    """(2, samples): a burst of noise every fifth of a second."""
    rng = torch.Generator().manual_seed(0)
    n_samples = round(duration_sec * SAMPLE_RATE)
    age_sec = torch.arange(n_samples) % (SAMPLE_RATE // 5) / SAMPLE_RATE
    noise = 2 * torch.rand(2, n_samples, generator=rng) - 1
    return noise * torch.exp(-age_sec / 0.05)


def separate_as_published(model: LarsNet, mixture: Tensor) -> Tensor:
    """Stems (5, 2, samples), one net after another on the whole file."""
    config, n_patch = model.config.stft, model.config.unet.n_frames
    stems = []
    with torch.no_grad():
        for name in model.config.stems:
            spectrum = stft(mixture, config)
            magnitudes, phase = spectrum.abs(), spectrum.angle()
            padded = functional.pad(magnitudes, (0, -magnitudes.shape[-1] % n_patch))
            patches = torch.stack(torch.split(padded, n_patch, dim=-1))
            masks = model.stem_masks(model.net(name)(model.net_input(patches)))[:, 0]
            mask = torch.cat(list(masks), dim=-1)[..., : magnitudes.shape[-1]]
            estimate = torch.polar(mask * magnitudes, phase)
            stems.append(istft(estimate, config, mixture.shape[-1]))
    return torch.stack(stems)


def main(argv: Sequence[str] | None = None) -> None:
    """Print seconds, real-time ratios and the difference."""
    parser = argparse.ArgumentParser(
        prog="stemgmd speed larsnet", description="LarsNet beside the original arrangement"
    )
    parser.add_argument("--seconds", type=float, default=47.0, help="of audio")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    model = make_model(LARSNET)
    mixture = make_mixture(options.seconds)
    separator = Separator(model, n_threads=options.threads, overlap_frames=0)
    contestants: dict[str, Callable[[], Tensor]] = {
        "as published": lambda: separate_as_published(model, mixture),
        "ours": lambda: separator.separate(mixture),
    }
    theirs, ours = (separate() for separate in contestants.values())  # and warms up
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, separate in contestants.items():
            start = time.perf_counter()
            separate()
            seconds[name].append(time.perf_counter() - start)
    print(
        f"larsnet, {options.seconds:g} s of stereo, {options.threads} threads, torch "
        f"{torch.__version__}, median of {options.rounds} rounds"
    )
    for name, values in seconds.items():
        median = statistics.median(values)
        print(
            f"{name:<14}{median:>8.2f} s   least {min(values):.2f} s   "
            f"{options.seconds / median:.1f}x real time"
        )
    pairs = zip(seconds["as published"], seconds["ours"], strict=True)
    ratio = statistics.median(published / own for published, own in pairs)
    difference = float((theirs - ours).abs().max())
    print(f"ours is {ratio:.2f}x as fast; largest difference {difference:.1e}")
