"""What a separation system is: the protocol that every entry of the leaderboard meets.

A system takes the mixture of a drum recording and gives its five stems. What else it may see
is what it declares in ``info.inputs``, and the runner hands it nothing beyond that. Audio is
float32 (channels, samples) or (stems, channels, samples), 44.1 kHz, full scale 1.0, stems in
the order of :data:`stemgmd_build.taxonomy.STEMS`.

A third party writes a class with these two members, a factory that makes it (called with the
torch device as its only argument) and names the factory in its package's entry points::

    [project.entry-points."stemgmd.systems"]
    my-system = "my_package.module:make"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Input = Literal["mixture", "score", "references"]
"""What a system may declare that it sees: the fields of :class:`Inputs`."""

Audio = NDArray[np.float32]
"""Full scale 1.0, 44.1 kHz; the last two axes are channels and samples."""


@dataclass(frozen=True)
class Inputs:
    """One clip as a system sees it.

    ``mixture``: float32 (channels, n_samples), one channel or two. ``score``: piece -> onsets
    of its hits in seconds, ascending. ``references``: the true stems, float32 (5, channels,
    n_samples). The last two are None unless the system declares them.
    """

    mixture: Audio
    score: Mapping[str, Sequence[float]] | None = None
    references: Audio | None = None


@dataclass(frozen=True)
class SystemInfo:
    """What a table must say of a system.

    ``revision`` changes whenever its output may. ``trained_on`` says in words what data it
    has learnt from ("nothing" for none), ``kits_seen`` names the kits of the catalogue among
    them. ``n_parameters`` counts learnt numbers. ``licence`` is that of code and weights.
    """

    id: str
    name: str
    inputs: tuple[Input, ...]
    revision: str
    trained_on: str
    n_parameters: int
    licence: str
    summary: str
    kits_seen: tuple[str, ...] = ()
    url: str = ""


class System(Protocol):
    """A separator, ready to be called any number of times."""

    @property
    def info(self) -> SystemInfo:
        """What a table says of the system: the same at any time, before and after separating."""
        ...

    def separate(self, inputs: Inputs) -> Audio:
        """Stems of one clip: float32 (5, channels, n_samples), as long as the mixture."""
        ...
