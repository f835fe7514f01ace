"""One contract for every system of the registry, and the registry itself.

Systems that other packages register are held to it too:
`pytest tests/benchmarks/test_systems.py -k NAME`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_drums import groove

from baselines.blocks import BlockConfig, block_spans
from baselines.settings import SETTINGS
from baselines.system import Audio, Inputs, System
from baselines.systems import FactorizationSystem, OracleSystem, factorize_block, start_from_score
from benchmarks import systems
from benchmarks.scores.metrics import nsdr_db
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

IDS = tuple(systems.available())
NEEDS_REFERENCES = ("ideal-binary", "ideal-ratio", "magnitude", "phase-sensitive")
FACTORIZATIONS = tuple(SETTINGS)


@pytest.fixture(scope="module", params=IDS)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield systems.load(request.param)
    torch.set_num_threads(threads)


def clip(n_samples: int, *, n_channels: int = 2, seed: int = 0) -> Inputs:
    """A clip with everything that a system might ask for."""
    if n_samples < 100:
        stems = torch.rand(len(STEMS), 2, n_samples) - 0.5
        onsets = {"kick": [0.0]}
    else:
        stems, onsets = groove(n_samples, seed=seed)
    references = stems[:, :n_channels].numpy().astype(np.float32)
    score = {piece: sorted(times) for piece, times in onsets.items()}
    return Inputs(references.sum(axis=0), score=score, references=references)


def declared(system: System, inputs: Inputs) -> Inputs:
    """What the runner hands over: nothing that is not declared."""
    asked = system.info.inputs
    return Inputs(
        inputs.mixture,
        score=inputs.score if "score" in asked else None,
        references=inputs.references if "references" in asked else None,
    )


def separated(system: System, inputs: Inputs) -> Audio:
    stems = system.separate(declared(system, inputs))
    assert stems.dtype == np.float32
    assert stems.shape == (len(STEMS), *inputs.mixture.shape)
    assert np.isfinite(stems).all()
    return stems


def test_a_system_says_what_a_table_must_know(system: System) -> None:
    info = system.info
    assert info.id in IDS
    assert "mixture" in info.inputs
    assert set(info.inputs) <= {"mixture", "score", "references"}
    assert info.name
    assert info.revision
    assert info.trained_on
    assert info.licence
    assert info.summary
    if info.id in systems.SYSTEMS:
        assert systems.SYSTEMS[info.id].inputs == info.inputs, "the listing says so too"
        assert (info.n_parameters > 0) == bool(info.kits_seen) == (info.trained_on != "nothing")


@pytest.mark.parametrize("n_channels", [1, 2])
def test_stems_have_the_shape_of_the_mixture(system: System, n_channels: int) -> None:
    separated(system, clip(40_001, n_channels=n_channels))


@pytest.mark.parametrize("n_samples", [0, 1, 2, 100, 1023, 5000])
def test_very_short_clips_are_separated(system: System, n_samples: int) -> None:
    separated(system, clip(n_samples))


def test_silence_gives_silence(system: System) -> None:
    inputs = clip(50_000)
    silent = Inputs(
        np.zeros_like(inputs.mixture), inputs.score, np.zeros((5, 2, 50_000), np.float32)
    )
    assert not separated(system, silent).any()


def test_a_silent_half_stays_silent(system: System) -> None:
    """Beyond the longest analysis window, that is."""
    inputs = clip(44_100)
    assert inputs.references is not None
    references = np.concatenate([inputs.references, np.zeros((5, 2, 44_100), np.float32)], axis=2)
    stems = separated(system, Inputs(references.sum(axis=0), inputs.score, references))
    assert np.abs(stems[..., 44_100 + 4096 :]).max() < 1e-6


def test_the_same_clip_gives_the_same_stems(system: System) -> None:
    inputs = clip(60_000)
    first = separated(system, inputs)
    separated(system, clip(30_000, seed=1))  # what came between leaves no trace
    np.testing.assert_array_equal(separated(system, inputs), first)
    np.testing.assert_array_equal(separated(systems.load(system.info.id), inputs), first)


def test_nothing_that_is_not_declared_is_used(system: System) -> None:
    inputs = clip(30_000)
    np.testing.assert_array_equal(system.separate(inputs), separated(system, inputs))


def test_what_is_declared_is_needed(system: System) -> None:
    inputs = clip(5000)
    for name in set(system.info.inputs) - {"mixture"}:
        with pytest.raises(UserError, match=f"needs the .*{name}"):
            system.separate(replace(inputs, **{name: None}))


def test_nothing_of_the_caller_is_written_to(system: System) -> None:
    inputs = clip(20_000)
    assert inputs.references is not None
    mixture, references = inputs.mixture.copy(), inputs.references.copy()
    inputs.mixture.flags.writeable = inputs.references.flags.writeable = False
    stems = separated(system, inputs)
    stems += 1  # nor are the stems a view of it
    np.testing.assert_array_equal(inputs.mixture, mixture)
    np.testing.assert_array_equal(inputs.references, references)


@pytest.mark.parametrize(
    "mixture",
    [
        np.full((2, 5000), np.nan, np.float32),
        np.full((2, 5000), np.inf, np.float32),
        np.full((2, 5000), 1e30, np.float32),
        np.zeros(5000, np.float32),
        np.zeros((3, 5000), np.float32),
        np.zeros((2, 5000), np.int16),
    ],
    ids=["nan", "infinite", "huge", "one-axis", "three-channels", "integers"],
)
def test_a_mixture_that_is_no_audio_is_one_line(system: System, mixture: Any) -> None:
    inputs = clip(5000)
    with pytest.raises(UserError, match="mixture") as caught:
        system.separate(declared(system, replace(inputs, mixture=mixture)))
    assert "\n" not in str(caught.value)


@settings(max_examples=6, deadline=None)
@given(level_db=st.floats(-400, 100), n_samples=st.integers(1, 9000), seed=st.integers(0, 99))
def test_no_level_gives_nan(system: System, level_db: float, n_samples: int, seed: int) -> None:
    inputs, gain = clip(n_samples, seed=seed), np.float32(10 ** (level_db / 20))
    assert inputs.references is not None
    references = (inputs.references * gain).astype(np.float32)
    separated(system, Inputs(references.sum(axis=0), inputs.score, references))


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_a_factorization_shares_out_the_mixture(name: str) -> None:
    """Masks sum to one wherever a stem sounds, so a dense clip is given away whole."""
    inputs = clip(2 * SAMPLE_RATE)
    stems = separated(systems.load(name), inputs)
    lost = float(np.square(inputs.mixture - stems.sum(axis=0)).mean())
    assert lost < 1e-3 * float(np.square(inputs.mixture).mean())


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_a_factorization_beats_the_mixture_on_drums_it_never_heard(name: str) -> None:
    inputs = clip(4 * SAMPLE_RATE)
    stems = separated(systems.load(name), inputs)
    kick = {"reference": inputs.references[0]}  # type: ignore[index]
    gained = nsdr_db(estimate=stems[0], **kick) - nsdr_db(estimate=inputs.mixture, **kick)
    assert float(gained) > 3


def test_the_oracles_stand_in_their_order() -> None:
    """The phase-sensitive mask is the best of its kind, the mixture worse than any."""
    inputs = clip(3 * SAMPLE_RATE)
    scores = {
        name: float(
            np.mean(
                nsdr_db(
                    reference=inputs.references,  # type: ignore[arg-type]
                    estimate=separated(systems.load(name), inputs),
                )
            )
        )
        for name in ("mixture", "zero", *NEEDS_REFERENCES)
    }
    best = max(scores, key=lambda name: scores[name])
    assert best == "phase-sensitive"
    assert scores["mixture"] < scores["zero"] < min(scores[name] for name in NEEDS_REFERENCES)
    assert scores["zero"] == 0


def blockwise(system: System, blocks: BlockConfig) -> System:
    assert isinstance(system, FactorizationSystem | OracleSystem)
    return replace(system, blocks=blocks)


def test_a_mask_without_memory_is_the_same_in_blocks(system: System) -> None:
    if not isinstance(system, OracleSystem):  # the next test, and LarsNet's own
        return
    inputs = clip(8 * SAMPLE_RATE)
    parts = separated(blockwise(system, BlockConfig(1024 * 128, 1024 * 48)), inputs)
    np.testing.assert_allclose(parts, separated(system, inputs), atol=1e-5)


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_seams_of_a_factorization_are_not_audible(name: str) -> None:
    """In blocks of 9 s it is within a decibel of 18 s at once: it hears half as many hits."""
    inputs, blocks = clip(18 * SAMPLE_RATE), BlockConfig(1024 * 384, 1024 * 160)
    system = systems.load(name)
    whole, parts = (separated(s, inputs) for s in (system, blockwise(system, blocks)))
    reference = inputs.references
    lost = nsdr_db(reference=reference, estimate=whole) - nsdr_db(  # type: ignore[arg-type]
        reference=reference,  # type: ignore[arg-type]
        estimate=parts,
    )
    assert float(lost.mean()) < 1.0


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_no_seam_makes_a_click(name: str) -> None:
    """A hum that swells moves slowly from sample to sample, and so do its stems at seams."""
    system, blocks = systems.load(name), BlockConfig(1024 * 96, 1024 * 32)
    time = np.arange(1024 * 192) / SAMPLE_RATE
    tones = [np.sin(2 * np.pi * hz * time) * (0.1 + 0.02 * time * i) for i, hz in enumerate(HUM)]
    hum = np.stack([np.sum(tones, axis=0)] * 2).astype(np.float32)
    score = {piece: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] for piece in ("kick", "low_tom", "ride")}
    stems = separated(blockwise(system, blocks), Inputs(hum, score=score))
    steps = np.abs(np.diff(stems)).max(axis=1)
    steps[:, :4096] = steps[:, -4096:] = 0  # the hum itself begins and ends with a click
    middle = np.zeros(steps.shape[1], bool)
    for span in block_spans(len(time), blocks)[1:]:
        middle[span.start + blocks.overlap_samples // 2 - 64 :][:128] = True
    # a cut instead of a fade gives nine times as much
    assert (steps[:, middle].max(axis=1) < 1.2 * steps[:, ~middle].max(axis=1) + 1e-4).all()


HUM = (50.0, 90.0, 160.0)


def test_a_ride_that_rings_across_a_seam_stays_explained() -> None:
    """A hit long before a block may sound from its first frame on."""
    system = systems.load("nmfd-score-informed")
    assert isinstance(system, FactorizationSystem)
    start = start_from_score({"ride": [-0.4], "kick": [-3.0]}, system.templates, system.settings, 9)
    rows = dict(zip(system.templates.piece_of_component, start, strict=True))
    assert bool((rows["ride"] > 0).all())
    time = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    tail = (0.1 * torch.sin(2 * torch.pi * 4000 * time) * torch.exp(-time)).expand(2, -1)
    stems = factorize_block(tail, system.templates, system.settings, {"ride": [-0.4]})
    torch.testing.assert_close(stems[STEMS.index("cymbals")], tail, atol=1e-4, rtol=0)


def test_a_score_that_names_no_piece_or_no_time_is_one_line() -> None:
    system, inputs = systems.load("nmfd-score-informed"), clip(5000)
    with pytest.raises(UserError, match="'cowbell'"):
        system.separate(replace(inputs, score={"cowbell": [0.0]}))
    with pytest.raises(UserError, match="onset that is not finite"):
        system.separate(replace(inputs, score={"kick": [float("nan")]}))


@pytest.mark.parametrize("name", NEEDS_REFERENCES)
def test_references_that_do_not_fit_are_one_line(name: str) -> None:
    inputs = clip(5000)
    with pytest.raises(UserError, match="do not fit"):
        systems.load(name).separate(replace(inputs, references=inputs.references[:4]))  # type: ignore[index]


QUICK = ("mixture", "nmf-fixed")
LONG_RUN = """
import json, resource, sys
import numpy as np
import torch
from baselines.system import Inputs
from benchmarks.systems import load
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def separate(n_sec):
    beat = noise * np.exp(-np.arange(44100) / 3000).astype(np.float32)
    inputs = {"mixture": np.tile(beat, (1, n_sec)) * np.float32(0.1)}
    if "score" in system.info.inputs:
        inputs["score"] = {"snare": [float(second) for second in range(n_sec)]}
    if "references" in system.info.inputs:
        inputs["references"] = np.zeros((5, 2, n_sec * 44100), np.float32)
        inputs["references"][1] = inputs["mixture"]
    before = peak()
    stems = system.separate(Inputs(**inputs))
    finite = all(np.isfinite(channel).all() for stem in stems for channel in stem)
    return {"peak": peak(), "before": before, "shape": stems.shape, "finite": bool(finite)}
system = load(sys.argv[1])
noise = np.random.default_rng(0).standard_normal((2, 44100), dtype=np.float32)
print(json.dumps([separate(int(n_sec)) for n_sec in sys.argv[2:]]))
"""


@pytest.mark.parametrize(
    ("name", "n_sec"),
    [(i, 180) for i in QUICK] + [pytest.param(i, 600, marks=pytest.mark.long) for i in IDS],
)
def test_long_recordings_are_separated_in_bounded_memory(name: str, n_sec: int) -> None:
    """Every system on ten minutes with `-m long`; always one of each class on three.

    The quick ones go the very path that the others take with other masks, templates or
    iterations. Past two blocks nothing but the audio, in and out, may grow with the length: the
    stems' spectrograms of a minute and a half would be 600 MB. In a process of its own, since
    the peak of this one is that of other tests.
    """
    command = [sys.executable, "-c", LONG_RUN, name, "90", str(n_sec)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=True)
    short, long = json.loads(result.stdout)
    assert long["shape"] == [5, 2, n_sec * SAMPLE_RATE]
    assert short["finite"]
    assert long["finite"]
    audio_bytes = 90 * SAMPLE_RATE * 2 * 4
    n_signals = 1 + 5 + (5 if "references" in systems.load(name).info.inputs else 0)
    assert short["peak"] - short["before"] < n_signals * audio_bytes + 1e9
    more_audio_bytes = (n_sec - 90) * SAMPLE_RATE * 2 * 4
    assert long["peak"] - short["peak"] < n_signals * more_audio_bytes + 150e6


# The registry.


class Alone:
    """A third party's system."""

    def __init__(self, name: str) -> None:
        self.info = replace(systems.load("zero").info, id=name)

    def separate(self, inputs: Inputs) -> Audio:
        return np.zeros((5, *inputs.mixture.shape), np.float32)


def _good(device: str) -> Any:
    return Alone("third-party")


def _other_id(device: str) -> Any:
    return Alone("something-else")


def _no_info(device: str) -> Any:
    return object()


def _raises(device: str) -> Any:
    raise RuntimeError("weights\nmissing")


def _leaves(device: str) -> Any:
    raise SystemExit(3)


def _explains(device: str) -> Any:
    raise UserError("weights.bin is missing: download it")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Entry points of this module's factories, as an installed package would have them."""

    def apply(**factories: str) -> None:
        found = metadata.EntryPoints(
            metadata.EntryPoint(name.replace("_", "-"), value, systems.GROUP)
            for name, value in factories.items()
        )
        monkeypatch.setattr(
            systems.metadata, "entry_points", lambda **wanted: found.select(**wanted)
        )

    return apply


def test_the_listing_holds_ours_and_imports_nothing() -> None:
    code = (
        "import sys; from benchmarks.systems import entries; print(*entries());"
        "assert not {'torch', 'baselines.systems'} & set(sys.modules), 'heavy'"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[: len(IDS)] == list(IDS)


def test_an_unknown_system_is_told_what_there_is() -> None:
    with pytest.raises(UserError, match=r"no system 'demucs'; there are mixture, zero, .*nmfd"):
        systems.load("demucs")


def test_an_unknown_device_is_one_line() -> None:
    for name in ("nmfd", "ideal-ratio"):
        with pytest.raises(UserError, match="device 'abacus' cannot be used") as caught:
            systems.load(name, "abacus")
        assert "\n" not in str(caught.value)


def test_a_third_party_registers_by_entry_point(register: Callable[..., None]) -> None:
    register(third_party=f"{__name__}:_good")
    assert systems.available() == (*IDS, "third-party")
    assert separated(systems.load("third-party"), clip(1000)).shape == (5, 2, 1000)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (f"{__name__}:_other_id", "calls itself 'something-else'"),
        (f"{__name__}:_no_info", "AttributeError"),
        (f"{__name__}:_raises", "RuntimeError: weights missing"),
        (f"{__name__}:_leaves", "SystemExit"),
        (f"{__name__}:no_such_factory", "AttributeError"),
        ("no_such_module:make", "ModuleNotFoundError"),
        ("not a reference", "raises"),
    ],
)
def test_a_broken_third_party_is_named_and_breaks_no_listing(
    register: Callable[..., None], value: str, words: str
) -> None:
    register(broken=value)
    assert systems.available() == (*IDS, "broken")
    with pytest.raises(UserError, match=r"the system 'broken' of .* is broken") as caught:
        systems.load("broken")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_third_party_tells_the_user_is_passed_on(register: Callable[..., None]) -> None:
    register(third_party=f"{__name__}:_explains")
    with pytest.raises(UserError, match=r"^weights\.bin is missing"):
        systems.load("third-party")


def test_no_package_takes_a_name_of_ours(register: Callable[..., None]) -> None:
    register(nmfd=f"{__name__}:_good")
    assert systems.available() == IDS
    assert isinstance(systems.load("nmfd"), FactorizationSystem)
