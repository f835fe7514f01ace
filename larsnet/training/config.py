"""What a training run is: a TOML file as a frozen record.

`load_config` takes the name of a packaged file (`larsnet/training/configs/`) or a path.
Unknown keys are errors: a setting that is misspelt must not be left at its default in silence.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from larsnet.network.protocol import NetworkConfig, config_from_values, config_to_values
from larsnet.records import check_types, known
from larsnet.training.augment import AugmentConfig
from stemgmd_build.errors import UserError

CONFIGS: Final = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class TrainConfig:
    """One run. ``batch`` is that of one step, over all devices and parts.

    Args:
        model: the network's settings; ``network`` names another one than LarsNet.
        steps: optimizer steps of the whole run.
        batch: examples a step; each of ``n_frames`` frames.
        accumulate: parts that a device works its share of a batch off in.
        uses: steps that the stems of a batch serve: once as they were played, then each time with
            the stems of different examples mixed. Rendering is what it saves.
        learning_rate: Adam's, reached after ``warmup_steps`` and falling linearly to nothing over
            the last ``decay_steps``.
        stem_weights: factor of each stem's loss; it matters only where nets share parameters.
        precision: of the nets' arithmetic; weights stay in float32.
        sync_batch_norm: batch statistics over all devices rather than each one's own.
        split, limit, kits: which performances on which kits.
        virtual_kits: how many kits that nobody recorded are heard besides
            (:mod:`larsnet.training.virtual_kits`), drawn anew from ``seed``.
        virtual_share: how many of the voices they play.
        init_sha256: hash of the checkpoint that the run starts from (`stemgmd train --init`), None
            for a random start.
        validation_kits: those to validate on; default: ``kits``. With a family that ``kits`` leave
            out, validation says how training carries over to drums that were never heard.
    """

    model: NetworkConfig
    steps: int
    batch: int = 24
    accumulate: int = 1
    uses: int = 1
    n_frames: int = 512
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    decay_steps: int = 0
    stem_weights: tuple[float, ...] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    sync_batch_norm: bool = False
    split: str = "train"
    limit: int | None = None
    kits: tuple[str, ...] = ("train",)
    validation_kits: tuple[str, ...] | None = None
    virtual_kits: int = 0
    virtual_share: float = 0.5
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 42
    validate_every: int = 1000
    validation_segments: int = 24
    checkpoint_every: int = 500
    init_sha256: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.seed < 1 << 20:
            raise ValueError(f"seed must be a whole number from 0 to {(1 << 20) - 1}")
        if self.split != "train":
            raise ValueError(
                "split must be train: what is validated on or tested on is not trained on"
            )
        if not self.kits or self.validation_kits == ():
            raise ValueError("kits and validation_kits must name some")
        if self.limit is not None and self.limit < 1:
            raise ValueError("limit must be a whole number above 0")
        counts = ("steps", "batch", "accumulate", "uses", "n_frames", "validate_every")
        for name in (*counts, "checkpoint_every", "validation_segments"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number above 0")
        if not 0 <= self.virtual_kits <= 10_000:
            raise ValueError("virtual_kits must be a whole number from 0 to 10,000")
        if not 0 < self.virtual_share < 1:
            raise ValueError("virtual_share must be between 0 and 1")
        if self.n_frames % self.model.frames_multiple:
            raise ValueError(f"n_frames must be a multiple of {self.model.frames_multiple}")
        if self.batch % self.accumulate:
            raise ValueError("batch must be a multiple of accumulate")
        if (
            not 0 < self.learning_rate < float("inf")
            or min(self.warmup_steps, self.decay_steps) < 0
        ):
            raise ValueError("learning_rate must be above 0, warmup and decay at least 0")
        if self.stem_weights is not None and (
            len(self.stem_weights) != len(self.model.stems)
            or not all(w >= 0 for w in self.stem_weights)
        ):
            raise ValueError("stem_weights must be one a stem, none of them negative")

    @property
    def n_samples(self) -> int:
        """Samples of a segment: the last frame is centred on the last one."""
        return (self.n_frames - 1) * self.model.stft.hop_samples

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / (self.warmup_steps + 1))
        fall = min(1.0, (self.steps - step) / (self.decay_steps + 1))
        return self.learning_rate * min(rise, fall)


def config_names() -> list[str]:
    """The packaged configurations."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def load_config(name: str, changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """The run that a file describes.

    Args:
        name: of a packaged configuration, or a path.
        changes: values at the file's top level to replace.

    Raises:
        UserError: no such file, no TOML, an unknown or impossible value.
    """
    path = Path(name)
    packaged = CONFIGS / f"{name}.toml"
    if path.suffix != ".toml" and packaged.is_file():
        path = packaged
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        there = ", ".join(config_names())
        raise UserError(
            f"no configuration {name} ({error.strerror}); there are {there}, or the path of a file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    try:
        return train_config({**values, **(changes or {})})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """From plain values, as TOML and JSON hold them. Raises ValueError, TypeError or KeyError."""
    given = known(values, TrainConfig, "the configuration")
    model = config_from_values(given.pop("model", {}))
    augment = AugmentConfig(**known(given.pop("augment", {}), AugmentConfig, "augment"))
    return TrainConfig(model=model, augment=augment, **given)


def as_values(config: TrainConfig) -> dict[str, Any]:
    """The inverse of `train_config`."""
    return {**asdict(config), "model": config_to_values(config.model)}
