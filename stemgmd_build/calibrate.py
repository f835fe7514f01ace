"""Measure every kit's gain over the whole of GMD and write it into catalogue.toml.

For maintainers, after a kit was added or its map or gains changed:
    python -m stemgmd_build.calibrate [KIT ...]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from stemgmd_build.bank import load_bank
from stemgmd_build.errors import UserError
from stemgmd_build.gain import all_strikes, measure_gain
from stemgmd_build.gmd import find_collection
from stemgmd_build.kits import available, catalogue
from stemgmd_build.manifest import write_whole


def set_gain(text: str, kit_id: str, gain: float) -> str:
    """catalogue.toml with this kit's gain set."""
    head, mark, rest = text.partition(f'id = "{kit_id}"\n')
    if not mark:
        raise UserError(f"catalogue.toml has no kit {kit_id}")
    fields, mark2, tail = rest.partition("[kit.sounds]")
    fields = re.sub(r"^gain = .*\n", "", fields, flags=re.MULTILINE) + f"gain = {gain}\n"
    return head + mark + fields + mark2 + tail


def main(kit_ids: list[str]) -> None:
    """Calibrate the kits of these ids, or all that are on this machine."""
    collection = find_collection(None, allow_builtin=False)
    if collection.source != "gmd" or len(collection.performances) != 1150:
        raise UserError(f"{collection.root} is not the whole of GMD; the gains are made for it")
    strikes = all_strikes(collection)
    path = Path(__file__).with_name("catalogue.toml")
    for kit in available(catalogue()):
        if not kit_ids or kit.id in kit_ids:
            gain = measure_gain(load_bank(kit, gain=1.0), strikes)
            write_whole(path, set_gain(path.read_text("utf-8"), kit.id, gain))
            print(f"{kit.id}: {gain}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
