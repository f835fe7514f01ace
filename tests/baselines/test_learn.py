"""Templates from kits, and the file that holds them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_kits import WHEEL_KIT

from baselines import learn
from baselines.settings import SETTINGS, Recipe
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import find_kit, select_kits
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.taxonomy import PIECES, STEM_OF_PIECE, STEMS

LONG = Recipe(n_fft=2048, template_sec=0.1, n_variants=2)
SPECTRA = Recipe(n_fft=1024, template_sec=0.2, n_variants=1, attack_frames=4)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return load_bank(find_kit(WHEEL_KIT), gain=1.0)


@pytest.fixture(scope="module")
def file(bank: Bank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("templates") / "templates.npz"
    learn.save(path, [bank], [LONG, SPECTRA, LONG])
    return path


def test_every_piece_of_a_kit_gets_templates_of_its_stem(bank: Bank) -> None:
    templates = learn.learn([bank], LONG)
    assert set(templates.piece_of_component) == set(PIECES)
    owners = zip(templates.piece_of_component, templates.stem_of_component, strict=True)
    assert all(STEMS[stem] == STEM_OF_PIECE[piece] for piece, stem in owners)
    assert templates.values.shape[1:] == (1025, 9)
    sums = templates.values.sum(dim=(1, 2))
    assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)


def test_the_gain_of_a_kit_does_not_change_its_templates(bank: Bank) -> None:
    loud = load_bank(bank.kit, gain=7.0)
    assert torch.equal(learn.learn([loud], LONG).values, learn.learn([bank], LONG).values)


def test_an_attack_gets_a_spectrum_of_its_own(bank: Bank) -> None:
    whole = learn.learn([bank], replace(SPECTRA, attack_frames=0))
    split = learn.learn([bank], SPECTRA)
    assert whole.values.shape == (9, 513, 1)
    assert split.values.shape == (18, 513, 1)


def test_what_is_saved_is_loaded_to_half_precision(bank: Bank, file: Path) -> None:
    for recipe in (LONG, SPECTRA):
        learnt, made = learn.load(recipe, file), learn.learn([bank], recipe)
        assert learnt.kits == (WHEEL_KIT,)
        assert learnt.templates.piece_of_component == made.piece_of_component
        assert learnt.templates.config == made.config
        loudest = made.values.amax(dim=(1, 2), keepdim=True)
        error = (learnt.templates.values - made.values).abs() / loudest
        assert float(error.max()) < 1e-3


def test_the_same_kits_make_the_same_bytes(bank: Bank, file: Path, tmp_path: Path) -> None:
    learn.save(tmp_path / "again.npz", [bank], [LONG, SPECTRA])
    assert (tmp_path / "again.npz").read_bytes() == file.read_bytes()


def test_the_file_says_what_it_was_made_of(bank: Bank, file: Path) -> None:
    with np.load(file) as held:
        facts = json.loads(str(held["facts"]))
    (kit,) = facts["kits"]
    assert (kit["id"], kit["bank"]) == (WHEEL_KIT, bank.digest)
    assert kit["licence"]
    assert facts["sets"][LONG.name]["recipe"]["n_fft"] == 2048


def test_the_package_holds_the_templates_of_every_system_from_training_kits_alone() -> None:
    training = {kit.id for kit in select_kits(["train"])}
    for settings in SETTINGS.values():
        learnt = learn.load(settings.recipe)
        assert set(learnt.kits) == training
        assert set(learnt.templates.piece_of_component) == set(PIECES)
    assert learn.PACKAGED.stat().st_size < 3e6


def test_a_recipe_that_the_file_lacks_is_named(file: Path) -> None:
    with pytest.raises(UserError, match=r"no templates long-4096-0\.1s-2"):
        learn.load(replace(LONG, n_fft=4096), file)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        learn.load(LONG, tmp_path / "none.npz")


@given(data=st.data())
def test_a_damaged_file_is_one_line_or_harmless(file: Path, data: st.DataObject) -> None:
    """A zip checks its members, so whatever is still read is what was written."""
    content = bytearray(file.read_bytes())
    kind = data.draw(st.sampled_from(["flip", "cut", "replace"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if kind == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[at:]
    else:
        content[at : at + 16] = data.draw(st.binary(min_size=16, max_size=16))
    damaged = file.with_name("damaged.npz")
    damaged.write_bytes(content)
    learn._read.cache_clear()
    try:
        learnt = learn.load(LONG, damaged)
    except UserError as error:
        line = str(error)
    else:
        assert torch.equal(learnt.templates.values, learn.load(LONG, file).templates.values)
        return
    assert line.startswith(str(damaged))
    assert "\n" not in line


HEADER = "{'descr': '<f2', 'fortran_order': False, 'shape': (18, 1025, 9), }"


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace("tran_order", "\0(\x1f"),
        HEADER.replace("18", "(" * 3000),
        HEADER.replace("<f2", "<f\udcff"),
        HEADER[:20],
    ],
)
def test_a_header_that_numpy_cannot_read_is_one_line(tmp_path: Path, header: str) -> None:
    """What numpy raises is tokenize's or the parser's, now and then."""
    text = header.encode("utf-8", "surrogateescape")
    path = tmp_path / "header.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "facts.npy", b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(64)
        )
    with pytest.raises(UserError, match=r"header\.npz is damaged"):
        learn.load(LONG, path)


def test_an_encrypted_file_is_one_line(file: Path, tmp_path: Path) -> None:
    """The flag that says so is a bit of the directory: zipfile asks for a password."""
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path = tmp_path / "encrypted.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"encrypted\.npz is damaged"):
        learn.load(LONG, path)


def _foreign(path: Path, file: Path, **changes: object) -> None:
    with np.load(file) as held:
        arrays = {name: held[name] for name in held.files}
    facts = json.loads(str(arrays["facts"]))
    facts.update({name: value for name, value in changes.items() if name in facts})
    arrays["facts"] = np.array(json.dumps(facts))
    arrays.update({n: np.asarray(v) for n, v in changes.items() if n not in facts})
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 99},
        {"sets": []},
        {"sets": {LONG.name: {"recipe": {}, "pieces": list(PIECES)}}},
        {"sets": {LONG.name: {"recipe": {"n_fft": 2048}, "pieces": ["cowbell"] * 9}}},
        {"kits": [{}]},
        {LONG.name: np.zeros((18, 1025, 9), np.float16)},
        {LONG.name: np.full((18, 1025, 9), np.nan, np.float16)},
        {LONG.name: np.ones((18, 1025, 9), np.float64)},
        {LONG.name: np.ones((2, 2, 2), np.float16)},
    ],
)
def test_a_foreign_file_is_one_line(file: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "foreign.npz"
    _foreign(path, file, **changes)
    with pytest.raises(UserError, match=r"foreign\.npz"):
        learn.load(LONG, path)


def test_pickles_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, facts=np.array([object()], dtype=object))
    with pytest.raises(UserError, match=r"evil\.npz is damaged"):
        learn.load(LONG, path)


def test_a_file_that_would_fill_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("facts.npy", bytes(learn._LARGEST_BYTES + 1))
    with pytest.raises(UserError, match=r"bomb\.npz is damaged"):
        learn.load(LONG, path)


def test_kits_held_out_for_testing_are_refused() -> None:
    with pytest.raises(UserError, match="forzee-stereo: held out for testing"):
        learn.training_banks(["forzee-stereo"])


def test_the_command_writes_a_file_that_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.npz"
    assert learn.main(["--kits", WHEEL_KIT, "--out", str(path)]) == 0
    assert "from 1 kits" in capsys.readouterr().out
    assert learn.load(SETTINGS["nmfd"].recipe, path).kits == (WHEEL_KIT,)


def test_bad_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert learn.main(["--kits", "no-such-kit"]) == 2
    (tmp_path / "file").touch()
    assert learn.main(["--kits", WHEEL_KIT, "--out", str(tmp_path / "file" / "x.npz")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("stemgmd learn: error")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
