"""A small study through a real Slurm of one node, made for the test: `make test-slurm`."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaelib.store import Store

SCRIPT = Path(__file__).with_name("slurm_node.sh")
WHERE = os.environ["PATH"] + os.pathsep + "/usr/sbin"
LACKING = [
    p for p in ("sbatch", "slurmctld", "slurmd", "munged") if not shutil.which(p, path=WHERE)
]
if not importlib.util.find_spec("dask_jobqueue"):
    LACKING.append("dask-jobqueue")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}"),
]


def call(*command: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | settings
    return subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a user of a node of its own has set."""
    up = call("bash", SCRIPT, "start", tmp_path / "node")
    if up.returncode:
        pytest.skip(f"no Slurm can run here: {up.stderr.strip()}")
    yield {
        "SLURM_CONF": str(tmp_path / "node" / "slurm.conf"),
        "VAELIB_STORE": str(tmp_path / "runs"),
        "VAELIB_RESULTS": str(tmp_path / "none"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DASK_JOBQUEUE__SLURM__MEMORY": "2GB",
        "DASK_JOBQUEUE__SLURM__LOG_DIRECTORY": str(tmp_path / "logs"),
    }
    assert call("bash", SCRIPT, "stop", tmp_path / "node").returncode == 0


def study(node: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    what = ["coupled_vae/table6", "--profile", "smoke", "--data", "grammar", "--seeds", "0"]
    where = ["--scheduler", "slurm", "--jobs", "2"]
    return call(sys.executable, "-m", "vaelib", "study", *what, *where, **node | more)


def test_jobs_of_slurm_make_a_study(node: dict[str, str], tmp_path: Path) -> None:
    refused = study(node, DASK_JOBQUEUE__SLURM__QUEUE="nosuch")
    assert refused.returncode == 2
    assert "Slurm takes no jobs" in refused.stderr
    assert "invalid partition specified: nosuch" in refused.stderr
    made = study(node)
    assert made.returncode == 0, made.stderr
    assert "2 runs done, 0 failed" in made.stderr
    assert "Coupled-VAE" in made.stdout
    assert len(Store(tmp_path / "runs").entries()) == 2
    assert "R" not in call("squeue", "-h", **node).stdout.split(), "no job is left"
    assert list((tmp_path / "logs").glob("dask-worker-*.err"))
