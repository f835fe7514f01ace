"""What a network is to everything around it, and the registry of networks.

Another network is one module with a settings record and a :class:`MaskNetwork`, and one
configuration. `register` it, or name it in a package's entry points, group "larsnet.networks". Its
configuration says ``network = "NAME"`` in the table ``[model]``. Training, validation, separation,
checkpoints, export and the benchmark then take it as they take LarsNet.

Axes are (batch, stems, channels, bins, frames). A *window* is what a network sees at a time; long
recordings are cut into windows that overlap, and their masks are cross-faded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from typing import Any, ClassVar, Final, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.blocks import BlockConfig
from baselines.spectral import StftConfig, stft
from larsnet.records import record_from
from stemgmd_build.errors import UserError

GROUP: Final = "larsnet.networks"
DEFAULT: Final = "larsnet"
_BUILT_IN: Final = {
    "larsnet": "larsnet.network.larsnet:LarsNet",
    "nmfd-net": "larsnet.network.nmfd_net:NmfdNet",
}


@runtime_checkable
class NetworkConfig(Protocol):
    """Settings of a network: a frozen dataclass of plain values, known before it is built."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems, or of pieces (:mod:`stemgmd_build.taxonomy`)."""

    @property
    def stft(self) -> StftConfig:
        """The analysis whose cells the masks are for."""

    @property
    def window_frames(self) -> int:
        """Frames that separation shows the network at a time."""

    @property
    def frames_multiple(self) -> int:
        """What the frames of a window must be a multiple of."""


class Batch(NamedTuple):
    """What a loss compares; a network that computes its own may put other tensors there."""

    mixture: Tensor
    stems: Tensor
    guide: Tensor | None = None


@dataclass(frozen=True)
class Threaded:
    """A network as parts that run side by side, each on one thread.

    ``begin`` turns what the network sees of a window into what all parts share. Each part gives
    the masks of its rows, (1, rows, channels, bins, frames). ``rooms`` is scratch memory of a
    thread.
    """

    begin: Callable[[Tensor], Tensor]
    parts: Sequence[tuple[slice, Callable[[Tensor, dict[Any, Any]], Tensor]]]


class MaskNetwork(nn.Module):
    """A network that gives the masks of stems.

    ``name`` is its name in the registry, ``settings`` the class of its settings, ``config`` its own
    settings. Where ``block`` is set, a recording is cut into blocks of that length, which overlap,
    and `prepare` is called for each: a factorization of a whole block has its place there.
    ``mask_channels``: 1 where both channels get one mask. ``fit_bands``: how many bands NMFD is
    fitted to when the stems are refined, which is faster than bins; None for bins.
    """

    name: ClassVar[str]
    settings: ClassVar[type[Any]]
    block: ClassVar[BlockConfig | None] = None
    mask_channels: ClassVar[int] = 2
    fit_bands: ClassVar[int | None] = None
    config: NetworkConfig

    @property
    def overlap_frames(self) -> int:
        """Frames that neighbouring windows share, at most half a window."""
        return self.config.window_frames // 8

    @property
    def summary(self) -> str:
        """What it is, in a few words for the leaderboard."""
        return self.name

    def prepare(self, mixture: Tensor) -> Tensor | None:
        """What must be known of a whole block before its windows: (batch, ..., frames), or None.

        Args:
            mixture: (batch, 2, samples), full scale 1.0; frames are those of ``config.stft``.
        """
        return None

    def see(self, spectrum: Tensor, guide: Tensor | None = None) -> Tensor:
        """The real tensor that `forward` takes; by default the magnitudes.

        Args:
            spectrum: complex (batch, 2, bins, frames) of the mixture in a window.
            guide: of the same frames, what `prepare` gave.
        """
        return spectrum.abs()

    def forward(self, seen: Tensor) -> Tensor:
        """Masks (batch, stems, channels or 1, bins, frames) of what `see` gave."""
        raise NotImplementedError

    def masks_of(self, spectrum: Tensor, guide: Tensor | None = None) -> Tensor:
        """Masks of a window."""
        masks: Tensor = self(self.see(spectrum, guide))
        return masks

    def on_threads(self) -> Threaded:
        """How it runs fastest on a CPU, from a snapshot of its weights."""
        return Threaded(lambda seen: seen, [(slice(None), lambda seen, rooms: self(seen))])

    def examples(self, stems: Tensor) -> Batch:
        """What the loss needs of stems (batch, stems, 2, samples), whose sum is the mixture."""
        cells = stft(stems, self.config.stft)
        return Batch(cells.sum(dim=1), cells.abs(), self.prepare(stems.sum(dim=1)))

    def losses(self, batch: Batch) -> Tensor:
        """Loss of each stem, (stems,); by default L1 between magnitudes (arXiv 2312.09663)."""
        masks = self.masks_of(batch.mixture, batch.guide).float()
        errors = masks * batch.mixture.abs().unsqueeze(1) - batch.stems
        return errors.abs().mean(dim=(0, 2, 3, 4))

    def compiled(self) -> Iterable[nn.Module]:
        """The modules that `torch.compile` is worth it for."""
        return (self,)

    def only(self, stem: str) -> nn.Module:
        """A module that gives one stem's masks (batch, channels, bins, frames) alone."""
        return _OneStem(self, self.config.stems.index(stem))


class _OneStem(nn.Module):
    def __init__(self, model: MaskNetwork, row: int) -> None:
        super().__init__()
        self.model, self.row = model, row

    def forward(self, seen: Tensor) -> Tensor:
        masks: Tensor = self.model(seen)
        return masks[:, self.row]


_registered: dict[str, type[MaskNetwork]] = {}


def register(network: type[MaskNetwork]) -> type[MaskNetwork]:
    """Make a network known by its ``name``; also as a decorator.

    Raises ValueError where another network has that name.
    """
    if network.name in _BUILT_IN or _registered.get(network.name, network) is not network:
        raise ValueError(f"there is a network {network.name!r} already")
    _registered[network.name] = network
    return network


def network_names() -> list[str]:
    """All networks that are known here."""
    named = {entry.name for entry in metadata.entry_points(group=GROUP)}
    return sorted({*_BUILT_IN, *_registered, *named})


def network_type(name: str) -> type[MaskNetwork]:
    """The network of a name. Raises ValueError for one that nobody registered."""
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        built_in: type[MaskNetwork] = getattr(import_module(module), attribute)
        return built_in
    if name not in _registered:
        entries = list(metadata.entry_points(group=GROUP, name=name))
        if not entries:
            raise ValueError(f"no network {name!r}; there are {', '.join(network_names())}")
        _registered[name] = _loaded(entries[0])
    return _registered[name]


def _loaded(entry: metadata.EntryPoint) -> type[MaskNetwork]:
    """Whatever another package's code raises is the package's fault: one line that names it."""
    try:
        network: type[MaskNetwork] = entry.load()
        if not issubclass(network, MaskNetwork) or network.name != entry.name:
            raise TypeError(f"{entry.value} is no MaskNetwork of that name")
    except Exception as error:
        words = " ".join(str(error).split())
        raise UserError(f"the network {entry.name!r} cannot be used: {words}") from error
    return network


def create(config: NetworkConfig) -> MaskNetwork:
    """A network with these settings, at its random start."""
    return network_type(_name_of(config))(config)


def _name_of(config: NetworkConfig) -> str:
    for name in (*_registered, *_BUILT_IN):
        if network_type(name).settings is type(config):
            return name
    raise ValueError(f"{type(config).__name__} belongs to no registered network")


def config_from_values(values: Mapping[str, Any]) -> NetworkConfig:
    """Settings from plain values, as TOML and JSON hold them: those of ``network`` (LarsNet).

    Raises ValueError or TypeError where a key or a value is not one of the network's.
    """
    if not isinstance(values, Mapping):
        raise ValueError("a network's settings must be a table")
    given = dict(values)
    network = network_type(str(given.pop("network", DEFAULT)))
    config: NetworkConfig = record_from(given, network.settings, "model")
    return config


def config_to_values(config: NetworkConfig) -> dict[str, Any]:
    """The inverse of `config_from_values`; LarsNet's name is left out, as before there were two."""
    name = _name_of(config)
    values = asdict(config)  # type: ignore[call-overload]
    return values if name == DEFAULT else {"network": name, **values}


def flops(config: NetworkConfig, n_frames: int) -> int:
    """Floating-point operations for one example of ``n_frames`` frames, as torch counts them.

    Nothing is computed; a guide is left out.
    """
    with torch.device("meta"):
        network = create(config)
        spectrum = torch.zeros(1, 2, config.stft.n_bins, n_frames, dtype=torch.complex64)
    with FlopCounterMode(display=False) as counter:
        network.masks_of(spectrum)
    return int(counter.get_total_flops())


def n_parameters(module: nn.Module) -> int:
    """Learnt numbers of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
