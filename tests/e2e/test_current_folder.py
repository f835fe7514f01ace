"""What lies in the folder that a command is started in is data: none of it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NAMES = (
    "multiprocessing numpy json larsnet baselines benchmarks stemgmd_build torch concurrent pickle "
    "tempfile soundfile site encodings threading distributed sitecustomize usercustomize"
)

COMMANDS = {
    "sampling": "kits preview timgm6mb-pretty-midi --out pv",
    "workers": "build --kits timgm6mb-pretty-midi --limit 2 --workers 2 --out built",
    "verify": "verify . --workers 2",
    "bench": "bench run --data . --split all --kits timgm6mb-pretty-midi --systems zero,mixture "
    "--no-speed --workers 2 --audio 0 --out results",
    "torchrun": "train smoke --processes 2 --steps 1 --out run",
}
"""Each way in which a command starts a Python. The folder is a dataset, for those that read one."""

PLANTED = """
import os, sys
with open({marker!r}, "a") as file:
    file.write(__name__ + "\\n")
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted") / "dataset"
    run(f"build --kits timgm6mb-pretty-midi --limit 2 --workers 1 --out {root}", root.parent)
    return root


def run(arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`stemgmd` as it is installed: a script that lies elsewhere."""
    script = folder.parent / "stemgmd"
    script.write_text(
        "import sys\nfrom stemgmd_build.cli import main\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    result = subprocess.run(
        [sys.executable, str(script), *arguments.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode in (0, 1), result.stderr
    assert "failed" not in result.stderr
    return result


@pytest.mark.parametrize("way", COMMANDS)
def test_files_of_the_current_folder_are_never_run(dataset: Path, tmp_path: Path, way: str) -> None:
    folder = shutil.copytree(dataset, tmp_path / "dataset")
    marker = tmp_path / "was-run"
    for name in NAMES.split():
        (folder / f"{name}.py").write_text(PLANTED.format(marker=str(marker)))
    cache = str(tmp_path / "cache") if way == "sampling" else os.environ.get("STEMGMD_CACHE", "")
    result = run(COMMANDS[way], folder, **({"STEMGMD_CACHE": cache} if cache else {}))
    assert not marker.exists(), f"{marker.read_text()} was run\n{result.stderr}"


def test_a_library_call_starts_no_such_file_either(dataset: Path, tmp_path: Path) -> None:
    """From a script elsewhere: the variable that the command sets is not there."""
    marker = tmp_path / "was-run"
    folder = shutil.copytree(dataset, tmp_path / "dataset")
    for name in NAMES.split():
        (folder / f"{name}.py").write_text(PLANTED.format(marker=str(marker)))
    script = tmp_path / "verify.py"
    script.write_text(
        "from pathlib import Path\nfrom stemgmd_build.verify import verify\n"
        "if __name__ == '__main__':\n"
        "    print(len(verify(Path('.'), n_workers=2, show_progress=False)))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == len(NAMES.split())  # files that no manifest lists
    assert not marker.exists()
