"""A network of another package is trained, used, exported and scored as LarsNet is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_builds import KIT, command, shortest, write_collection
from small_larsnets import bursts
from torch import Tensor

from baselines.blocks import BlockConfig, block_spans
from baselines.spectral import StftConfig, stft
from larsnet.network.protocol import MaskNetwork, network_names, register
from larsnet.separation.inference import Separator
from stemgmd_build.performances.collection import Collection
from stemgmd_build.taxonomy import PIECES

MODULE = '''
from dataclasses import dataclass
import torch
from baselines.spectral import StftConfig
from larsnet import MaskNetwork
from stemgmd_build.taxonomy import PIECES

@dataclass(frozen=True)
class ToyConfig:
    """Other cells than LarsNet's, and a stem for each of nine pieces."""
    width: int = 4
    stems: tuple[str, ...] = PIECES
    window_frames: int = 40
    frames_multiple: int = 1

    @property
    def stft(self):
        return StftConfig(1024, 512)

class Toy(MaskNetwork):
    """Masks that depend on the bin alone, the same for both channels."""
    name = "toy"
    settings = ToyConfig

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.levels = torch.nn.Parameter(torch.zeros(len(config.stems), config.stft.n_bins, 1))

    def forward(self, seen):
        masks = self.levels.softmax(dim=0)[None, :, None]
        return masks.expand(seen.shape[0], -1, 1, -1, seen.shape[-1])
'''

CONFIG = f"""
steps = 6
batch = 2
n_frames = 40
learning_rate = 0.1
validate_every = 3
validation_segments = 2
checkpoint_every = 3
kits = ["{KIT}"]
[model]
network = "toy"
width = 8
"""


@pytest.fixture(scope="module")
def gmd(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("performances") / "gmd"
    chosen = {p.split: p for p in reversed(shortest(builtin_collection, 99))}
    write_collection(folder, builtin_collection, list(chosen.values()))
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip leaves of a package that registers a network."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "toy_package.py").write_text(MODULE)
    info = folder / "toy_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[larsnet.networks]\ntoy = toy_package:Toy\n")
    return folder


def test_a_registered_network_goes_every_way_that_larsnet_goes(
    package: Path, gmd: Path, tmp_path: Path
) -> None:
    def stemgmd(*arguments: object) -> str:
        import subprocess

        path = os.pathsep.join((str(package), *filter(None, [os.environ.get("PYTHONPATH")])))
        result = subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    (tmp_path / "toy.toml").write_text(CONFIG)
    run, weights = tmp_path / "run", tmp_path / "toy.safetensors"
    stemgmd("train", tmp_path / "toy.toml", "--gmd", gmd, "--out", run)
    rows = np.genfromtxt(run / "losses.csv", delimiter=",", names=True)
    assert set(PIECES) < set(rows.dtype.names)
    assert rows["loss"][-1] < rows["loss"][0]
    stemgmd("pack", run, weights, "--gmd", gmd)
    recording = bursts(100_000)
    soundfile.write(tmp_path / "drums.wav", recording.T, 44_100, "FLOAT")
    out = ("-o", tmp_path / "stems", "--weights", weights, "--stems", "nine")
    stemgmd("separate", tmp_path / "drums.wav", *out)
    stems = [soundfile.read(tmp_path / "stems" / "drums" / f"{p}.wav")[0].T for p in PIECES]
    assert np.abs(np.sum(stems, axis=0) - recording).max() < 1e-5
    stemgmd("export", tmp_path / "kick.pt2", "--stem", "kick", "--weights", weights)
    assert (tmp_path / "kick.pt2").is_file()
    what = ("--systems", f"mine={weights}", "--kits", KIT, "--split", "all", "--limit", 1)
    where = ("--gmd", gmd, "--no-speed", "--audio", 0, "--out", tmp_path / "results")
    stemgmd("bench", "run", *what, *where)
    lines = (tmp_path / "results" / "systems.jsonl").read_text().splitlines()
    systems = {found["system"]: found for found in map(json.loads, filter(None, lines))}
    assert systems["mine"]["kits_seen"] == [KIT]


@dataclass(frozen=True)
class GuidedConfig:
    stems: tuple[str, ...] = ("kick",)
    window_frames: int = 16
    frames_multiple: int = 1

    @property
    def stft(self) -> StftConfig:
        return StftConfig(1024, 512)


@register
class Guided(MaskNetwork):
    """Lets pass what its guide, made of a block as a whole, and the window agree upon."""

    name = "guided"
    settings = GuidedConfig
    block = BlockConfig(block_samples=512 * 100, overlap_samples=512 * 12)

    def __init__(self, config: GuidedConfig) -> None:
        super().__init__()
        self.config = config
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.n_prepared: list[int] = []

    def prepare(self, mixture: Tensor) -> Tensor:
        self.n_prepared.append(mixture.shape[-1])
        return stft(mixture, self.config.stft).abs().sum(dim=(1, 2))[:, None]

    def see(self, spectrum: Tensor, guide: Tensor | None = None) -> Tensor:
        assert guide is not None
        level = spectrum.abs().sum(dim=(1, 2))[:, None]
        return ((level - guide).abs() < 1e-3 * level + 1e-9).float()

    def forward(self, seen: Tensor) -> Tensor:
        return seen[:, :, None, None].expand(-1, 1, 1, self.config.stft.n_bins, -1)


@pytest.mark.parametrize("n_samples", [700, 512 * 16, 512 * 112, 200_001])
def test_a_guide_made_of_a_block_meets_the_frames_that_it_is_of(n_samples: int) -> None:
    assert "guided" in network_names()
    mixture = torch.from_numpy(bursts(n_samples))[None]
    separator = Separator(Guided(GuidedConfig()), n_threads=1)
    runs = list(separator.stream(mixture.split(10_000, dim=-1)))
    torch.testing.assert_close(torch.cat(runs, dim=-1)[:, 0], mixture, rtol=0, atol=1e-5)
    prepared = separator._runner.model.n_prepared
    assert max(prepared) <= 512 * 112
    assert len(prepared) == len(block_spans(n_samples, Guided.block))


def test_two_networks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="already"):
        register(type("Other", (Guided,), {}))
