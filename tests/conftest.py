"""Shared by all tests: one thread, a store of its own, and the small corpus most of them use."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from objective_helpers import Posteriors, seeded

from vaelib.build import load_data, resolve
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.layers import Shape
from vaelib.plots.style import Picture


def pytest_configure() -> None:
    """Hear Ctrl-C: who started the tests may ignore it, and commands they start would inherit that.

    A shell does so with what it puts into the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` say why they do not run where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; there is none here"))


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test writes to the checkout's `runs/`; torch keeps to one thread."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAELIB_STORE", str(root))
        yield root


@pytest.fixture
def generator() -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(11)


@pytest.fixture
def shape() -> Shape:
    """Small sizes, all different."""
    return Shape(vocab_size=13, embedding_dim=5, hidden_dim=7, latent_dim=4)


@pytest.fixture(scope="session")
def smoke() -> Config:
    """The plain VAE at the smoke profile on `grammar`."""
    return resolve("vae", data="grammar", profile="smoke")


@pytest.fixture(scope="session")
def corpus(smoke: Config) -> Corpus:
    """Its sentences, a slice of each split."""
    return load_data(smoke)


@pytest.fixture
def posteriors() -> Posteriors:
    """12 posteriors over 3 dimensions in float64, some sharp, some wide, some far out."""
    noise = seeded(5)
    mu = 1.5 * torch.randn(12, 3, generator=noise, dtype=torch.float64)
    logvar = torch.randn(12, 3, generator=noise, dtype=torch.float64) - 0.5
    return mu.requires_grad_(), logvar.requires_grad_()


@pytest.fixture(scope="module")
def pictures(request: pytest.FixtureRequest) -> dict[str, Picture]:
    """The pictures of a module that says in `PICTURES` how each is made."""
    return {name: make() for name, make in request.module.PICTURES.items()}
