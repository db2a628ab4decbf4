"""What strangers and notebooks rely on: names, signatures, docstrings, a quiet import."""

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaelib
from vaelib.store import Store

PROMISED = {
    "metrics": {
        "kl_normal": ["mu", "logvar"],
        "mutual_information": ["mu", "logvar", "estimator", "samples", "batch_size", "generator"],
        "active_units": ["mu", "threshold"],
        "consistent_units": ["mu", "logvar", "threshold", "direction", "method"],
        "mutual_posterior_divergence": ["mu", "logvar"],
        "conditional_entropy": ["logvar"],
        "distinct": ["sentences", "n"],
        "rouge_l": ["reference", "hypothesis", "variant"],
        "importance_weighted_nll": ["model", "batch", "samples", "generator"],
        "bleu": ["hypotheses", "references", "order"],
    },
    "objectives": {
        "density_gap": ["mu", "logvar", "samples", "aggregation_size", "form", "generator"]
    },
    "distributions": {
        "VonMisesFisher": ["loc", "concentration"],
        "HypersphericalUniform": ["dim"],
    },
    "data": {"load": ["name_or_path"]},
}
CORE = [
    "build",
    "config",
    "decoders",
    "digest",
    "encoders",
    "errors",
    "evaluate",
    "layers",
    "model",
    "objectives.adversarial",
    "objectives.bag_of_words",
    "objectives.base",
    "objectives.density_gap",
    "objectives.free_bits",
    "objectives.kl",
    "objectives.mmd",
    "posteriors",
    "priors",
    "registry",
    "run",
    "schedules",
    "store",
    "strategies",
    "studies",
    "sweep",
    "testing",
    "train",
]


def public(module: Any) -> dict[str, Any]:
    """The functions and classes a module defines for others."""
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__
    }


def test_everything_exported_exists_and_is_documented() -> None:
    assert sorted(vaelib.__all__) == sorted(set(vaelib.__all__))
    for name in vaelib.__all__:
        assert inspect.getdoc(getattr(vaelib, name)), name


@pytest.mark.parametrize("module", list(PROMISED))
def test_promised_functions_take_the_promised_arguments(module: str) -> None:
    for name, arguments in PROMISED[module].items():
        found = inspect.signature(getattr(getattr(vaelib, module), name)).parameters
        assert [a for a in arguments if a in found] == arguments, name


def test_promised_defaults() -> None:
    def default(function: Any, name: str) -> Any:
        return inspect.signature(function).parameters[name].default

    metrics = vaelib.metrics
    assert default(metrics.mutual_information, "estimator") == "global"
    assert default(metrics.active_units, "threshold") == 0.01
    assert default(metrics.consistent_units, "threshold") == 0.03
    assert default(metrics.consistent_units, "direction") == "p||q"
    assert default(metrics.importance_weighted_nll, "samples") == 500
    assert default(vaelib.objectives.density_gap, "samples") == 32
    assert default(vaelib.objectives.density_gap, "aggregation_size") is None
    assert default(vaelib.objectives.density_gap, "form") == "marginal"
    assert default(vaelib.run, "profile") == "laptop"
    assert default(vaelib.run, "seed") == 0


def test_the_promised_run_and_study(tmp_path: Path) -> None:
    run = vaelib.run(
        "dg",
        data="grammar",
        profile="smoke",
        seed=0,
        aggregation_size=4,
        store=Store(tmp_path),
        progress=False,
    )
    assert run.config.options["aggregation_size"] == 4
    assert isinstance(run.metrics, dict)
    assert run.posterior["mu"].ndim == run.posterior["logvar"].ndim == 2
    assert not run.model().training
    assert len(run.generate(2)) == 2
    study = vaelib.study("dg_vae", profile="smoke", store=Store(tmp_path))
    assert list(study.results().columns)
    assert not study.claims().empty


@pytest.mark.parametrize("module", CORE)
def test_public_things_of_the_core_are_documented_and_typed(module: str) -> None:
    found = importlib.import_module(f"vaelib.{module}")
    things = public(found)
    assert things
    for name, thing in things.items():
        assert inspect.getdoc(thing), f"{module}.{name} has no docstring"
        functions = [thing] if inspect.isfunction(thing) else vars(thing).values()
        for function in filter(inspect.isfunction, functions):
            if function.__code__.co_filename == found.__file__:  # not one that Python generated
                wanted = set(inspect.signature(function).parameters) - {"self", "cls"}
                hints = inspect.get_annotations(function)
                assert wanted <= set(hints), f"{module}.{name}.{function.__name__}"


@pytest.mark.parametrize("module", ["", *CORE])
def test_examples_in_docstrings_hold(module: str, tmp_path: Path) -> None:
    found = importlib.import_module(f"vaelib.{module}".rstrip("."))
    result = doctest.testmod(found, extraglobs={"torch": torch, "Path": Path})
    assert result.failed == 0


def test_the_import_is_quiet_offline_and_light() -> None:
    """No network, no output, no global change, and nothing of the book's tools."""
    code = """
import socket, sys, warnings
warnings.simplefilter("error")
def refuse(*_, **__): raise AssertionError("network on import")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
state, threads = torch.get_rng_state(), torch.get_num_threads()
import vaelib
assert torch.equal(state, torch.get_rng_state())
assert torch.get_num_threads() == threads
assert torch.is_grad_enabled()
heavy = {"matplotlib", "papermill", "nbformat", "sphinx", "scipy", "hypothesis"} & set(sys.modules)
assert not heavy, heavy
"""
    root = str(Path(vaelib.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        text=True,
        cwd=root,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""


def test_metrics_take_the_arrays_of_a_run() -> None:
    rng = np.random.default_rng(0)
    mu, logvar = rng.normal(size=(2, 20, 3)).astype(np.float32)
    mu.flags.writeable = False
    metrics, tensors = vaelib.metrics, (torch.tensor(mu), torch.tensor(logvar))
    for name in ("mutual_information", "consistent_units", "mutual_posterior_divergence"):
        metric = getattr(metrics, name)
        assert metric(mu, logvar) == metric(mu, logvar=logvar) == metric(*tensors), name
    assert metrics.active_units(mu) == metrics.active_units(tensors[0])
    assert metrics.conditional_entropy(logvar) == metrics.conditional_entropy(tensors[1])
    assert torch.equal(metrics.kl_normal(mu, logvar), metrics.kl_normal(*tensors))
    assert metrics.rouge_l(np.array(["a", "b"]), ["a", "b"]) == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: m.mutual_information(x, x, samples=0),
        lambda m, x: m.mutual_information(x, x, estimator="in_batch", batch_size=0),
        lambda m, x: m.consistent_units(x, x, method="monte_carlo", samples=0),
        lambda m, x: m.unit_divergences(x, x, method="monte_carlo", samples=-1),
        lambda _, x: vaelib.objectives.density_gap(x, x, samples=0),
    ],
)
def test_a_monte_carlo_number_needs_a_sample(call: Any) -> None:
    with pytest.raises(vaelib.VaelibError, match="samples=-?[01]"):
        call(vaelib.metrics, torch.zeros(4, 2))


def test_a_name_of_the_package_is_the_public_one_whatever_was_imported() -> None:
    code = """
import sys
import vaelib
assert "torch" not in sys.modules
assert "run" in dir(vaelib)
import vaelib.run, vaelib.data.corpus
assert callable(vaelib.run) and vaelib.run is sys.modules["vaelib.run"].run
from vaelib import run, study, Config
assert run is vaelib.run and Config.__module__ == "vaelib.config"
try:
    vaelib.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise AssertionError
"""
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_errors_are_value_errors() -> None:
    assert issubclass(vaelib.VaelibError, ValueError)
    assert vaelib.__version__
