"""From a run of the study to packaged weights in half precision: the averaged network.

With ``--other`` the mean of two states of a run: what the rate's decay learns of the training kits
costs a little on others, and the mean has both (Wortsman et al. 2022, arXiv 2109.01903).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from larsnet.network.checkpoint import save_checkpoint
from larsnet.network.nmfd_net import NmfdNet


def main() -> None:
    """Write the weights and say their hash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder with state.pt")
    parser.add_argument("--other", type=Path, help="folder with an earlier state.pt of the run")
    parser.add_argument("--facts", type=Path, required=True, help="facts.json of the examples")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    state = torch.load(options.run / "state.pt", weights_only=True)
    network = NmfdNet()
    weights = dict(state["average"])
    if options.other:
        earlier = torch.load(options.other / "state.pt", weights_only=True)["average"]
        for name, weight in weights.items():
            if weight.is_floating_point():
                weights[name] = earlier[name].lerp(weight, 0.5)
    network.load_state_dict({"templates": network.templates, **weights})
    facts: dict[str, Any] = json.loads(options.facts.read_text("utf-8"))
    kits = list(facts["kits"])
    singles = sum(len(names) for names in facts["singles"].values())
    notes = {
        "trained_on": f"GMD's train split on {len(kits)} kits and {singles} single drums, "
        f"{state['step']:,} steps of six segments of 12 s",
        "kits": kits,
        "step": state["step"],
    }
    digest = save_checkpoint(network, options.out, notes=notes, dtype=torch.float16)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, {digest[:10]}")


if __name__ == "__main__":
    main()
