"""Measure every kit's gain over the whole of GMD and write it into catalogue.toml.

For maintainers, after a kit was added or its map or gains changed:
    stemgmd calibrate [KIT ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import tomlkit

from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.kits.catalogue import CATALOGUE, available, select_kits
from stemgmd_build.performances.gmd import find_collection
from stemgmd_build.rendering.bank import load_bank
from stemgmd_build.rendering.gain import all_strikes, measure_gain


def set_gain(text: str, kit_id: str, gain: float) -> str:
    """catalogue.toml with this kit's gain set."""
    document = tomlkit.parse(text)
    for kit in document["kit"]:
        if kit["id"] == kit_id:
            kit["gain"] = gain
            return tomlkit.dumps(document)
    raise UserError(f"catalogue.toml has no kit {kit_id}")


def calibrate(kit_ids: Sequence[str]) -> None:
    """Calibrate the kits of these ids, or all that are on this machine.

    Raises UserError where GMD is not whole or a kit is not known.
    """
    collection = find_collection(None, allow_builtin=False)
    if collection.source != "gmd" or len(collection.performances) != 1150:
        raise UserError(f"{collection.root} is not the whole of GMD; the gains are made for it")
    kits = available(select_kits(kit_ids or ["all"]))
    strikes = all_strikes(collection)
    if len(strikes) != len(collection.performances):  # those that cannot be read are left out
        raise UserError(f"{collection.root} is damaged; `stemgmd gmd verify` says where")
    for kit in kits:
        gain = measure_gain(load_bank(kit, gain=1.0), strikes)
        write_whole(CATALOGUE, set_gain(CATALOGUE.read_text("utf-8"), kit.id, gain))
        print(f"{kit.id}: {gain}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the gains of kits into the catalogue."""
    parser = argparse.ArgumentParser(
        prog="stemgmd calibrate",
        description="Measure kits' gains over the whole of GMD and write them into the catalogue.",
    )
    parser.add_argument("kits", nargs="*", help="ids (default: every kit on this machine)")
    options = parser.parse_args(argv)
    try:
        calibrate(options.kits)
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    return 0
