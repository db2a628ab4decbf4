"""The toy: the protocol's settings, the same numbers twice, and what five seeds must show."""

import math
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from vaelib.build import build
from vaelib.claims import judge
from vaelib.errors import VaelibError
from vaelib.store import Store
from vaelib.studies import Study
from vaelib.toy import (
    BATCH,
    EVERY,
    LR,
    METHODS,
    POINTS,
    SEEDS,
    STEPS,
    Snapshot,
    Toy,
    kept_toy,
    measure,
    toy,
    toy_config,
    train,
)


@pytest.fixture(scope="module")
def short() -> Toy:
    return toy(seeds=[0, 3], steps=32, every=16)


def test_the_constants_are_those_of_the_study() -> None:
    about = Study("dg_vae").item("toy")["toy"]
    mine = {
        "methods": list(METHODS),
        "points": POINTS,
        "batch_size": BATCH,
        "latent_dim": toy_config("dg").latent_dim,
        "steps": STEPS,
        "snapshots": list(range(EVERY, STEPS + 1, EVERY)),
        "lr": LR,
        "samples": toy_config("dg").options["samples"],
        "aggregation_size": toy_config("dg").options["aggregation_size"],
        "seeds": list(SEEDS),
    }
    assert mine == about


def test_every_method_takes_eight_samples_of_a_posterior() -> None:
    assert toy_config("aae").options["critic_samples"] == 8
    assert toy_config("wae").options["mmd_samples"] == 8


@pytest.mark.parametrize(("method", "weight"), [("ae", 0.0), ("vae", 1.0), ("wae", 1.0)])
def test_the_weight_is_not_annealed(method: str, weight: float) -> None:
    assert build(toy_config(method), POINTS).schedule.final == weight


@pytest.mark.parametrize("method", METHODS)
def test_posteriors_start_at_the_prior_and_networks_at_their_default(method: str) -> None:
    built = build(toy_config(method, seed=4), POINTS)
    assert built.model.encoder.table.weight.abs().max() == 0
    first = built.model.decoder.network[0].weight
    assert 0.1 < first.abs().max() < 1 / math.sqrt(2)  # U(-1/sqrt(2), 1/sqrt(2)), 16 draws


def test_the_first_step_moves_the_second_batch_alone() -> None:
    config = toy_config("ae")
    (snapshot,) = train(build(config, POINTS), config, steps=1, every=1)
    moved = (snapshot.mu != 0).any(dim=1).nonzero().flatten()
    assert moved.tolist() == list(range(BATCH, 2 * BATCH))


def test_the_second_step_moves_the_first_ones_again_by_their_momentum() -> None:
    config = toy_config("vae")
    one, two = train(build(config, POINTS), config, steps=2, every=1)
    first = slice(BATCH, 2 * BATCH)
    assert (one.mu[first] != two.mu[first]).all()


def test_results_hold_a_row_a_method_and_seed(short: Toy) -> None:
    pairs = list(zip(short.results["method"], short.results["seed"], strict=True))
    assert pairs == [(m, s) for m in METHODS for s in (0, 3)]
    assert short.results.notna().all().all()


def test_snapshots_come_at_the_asked_steps(short: Toy) -> None:
    where = [(s.method, s.step) for s in short.of_seed(3)]
    assert where == [(m, step) for m in METHODS for step in (16, 32)]
    assert all(s.mu.shape == s.logvar.shape == (POINTS, 2) for s in short.snapshots)


def test_a_snapshot_is_not_changed_by_later_steps(short: Toy) -> None:
    by_step = {s.step: s for s in short.of_seed(0) if s.method == "dg"}
    assert not torch.equal(by_step[16].mu, by_step[32].mu)


def test_the_same_seed_gives_the_same_bits(short: Toy) -> None:
    again = toy(["aae", "dg"], seeds=[3], steps=32, every=16)
    for mine in again.snapshots:
        twin = next(s for s in short.of_seed(3) if (s.method, s.step) == (mine.method, mine.step))
        assert torch.equal(mine.mu, twin.mu)
    rows = short.results.query("method in ['aae', 'dg'] and seed == 3").reset_index(drop=True)
    assert again.results.equals(rows)


def test_seeds_differ(short: Toy) -> None:
    a, b = (short.of_seed(seed)[-1] for seed in (0, 3))
    assert not torch.equal(a.mu, b.mu)


def test_other_draws_do_not_reach_the_toy() -> None:
    torch.manual_seed(1)
    one = toy(["wae"], seeds=[0], steps=4, every=4).snapshots[0]
    torch.manual_seed(2)
    two = toy(["wae"], seeds=[0], steps=4, every=4).snapshots[0]
    assert torch.equal(one.mu, two.mu)


def test_an_untrained_toy_knows_nothing() -> None:
    config = toy_config("vae")
    numbers = measure(build(config, POINTS), config)
    assert numbers["marginal_kl"] == pytest.approx(0, abs=1e-6)
    assert numbers["mean_kl"] == 0
    assert numbers["mi_global"] == pytest.approx(0, abs=0.02)
    assert numbers["accuracy"] == pytest.approx(1 / POINTS, abs=0.002)
    assert numbers["distortion"] == pytest.approx(math.log(POINTS), abs=0.2)


def test_a_perfect_code_is_named_with_certainty() -> None:
    config = toy_config("ae")
    built = build(config, POINTS)
    with torch.no_grad():  # far apart on a circle, and a decoder that reads the angle off
        angle = torch.arange(POINTS) * 2 * math.pi / POINTS
        places = torch.stack([angle.cos(), angle.sin()], dim=1)
        built.model.encoder.table.weight.copy_(torch.cat([places, places * 0 - 20], dim=1))
        hidden, _, out = built.model.decoder.network
        hidden.weight.zero_()[:2].copy_(0.01 * torch.eye(2))
        hidden.bias.zero_()
        out.weight.zero_()[:, :2].copy_(1e6 * places)
        out.bias.copy_(-0.5e6 * places.sum(dim=1))
    numbers = measure(built, config)
    assert numbers["accuracy"] == 1
    assert numbers["mi_global"] == pytest.approx(math.log(POINTS), abs=0.02)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"every": 0}, {"steps": 500, "every": 300}])
def test_steps_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(VaelibError, match="divides"):
        toy(["dg"], seeds=[0], **wrong)


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(VaelibError, match="did you mean 'wae'"):
        toy(["wea"], seeds=[0], steps=1, every=1)


@pytest.mark.slow
def test_the_original_toy_and_its_claim() -> None:
    """The tolerances are the claim's, set before the toy was run."""
    found = toy()
    mean = found.results.groupby("method").mean(numeric_only=True)
    assert mean.loc["dg", "marginal_kl"] < 0.2 < mean.loc[["aae", "wae"], "marginal_kl"].min() / 5
    assert mean.loc["vae", "accuracy"] == pytest.approx(1 / POINTS, abs=1 / POINTS)
    assert 1.8 < mean.loc["dg", "mean_kl"] < 2.7
    claims = judge("dg_vae", Study("dg_vae", labels=[]).results(), toy=found.results)
    verdict = claims[claims["data"] == "toy"]["verdict"].item()
    assert verdict in ("reproduced", "direction only")
    assert isinstance(found.snapshots[0], Snapshot)


def test_one_method_and_one_seed_need_no_list() -> None:
    one = toy("dg", seeds=0, steps=2, every=1)
    both = toy(["dg"], seeds=iter([0]), steps=2, every=1)
    assert one.results.equals(both.results)
    assert list(one.results["method"]) == ["dg"]


def test_a_toy_is_trained_once_and_then_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "runs")
    first = kept_toy(seeds=[3, 1], steps=2, every=1, store=store)
    assert store.entries() == []
    assert store.unfinished() == []
    module = sys.modules["vaelib.toy"]
    monkeypatch.setattr(module, "build", None)  # nothing can be trained any more
    again = kept_toy(seeds=[3, 1], steps=2, every=1, store=store)
    pd.testing.assert_frame_equal(again.results, first.results)
    assert len(again.snapshots) == len(METHODS) * 2 * 2
    for one, two in zip(first.snapshots, again.snapshots, strict=True):
        assert (one.method, one.seed, one.step) == (two.method, two.seed, two.step)
        assert torch.equal(one.mu, two.mu)
        assert torch.equal(one.logvar, two.logvar)
    with pytest.raises(TypeError):  # other steps are another toy
        kept_toy(seeds=[3, 1], steps=4, every=2, store=store)


def test_a_kept_toy_that_was_damaged_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    kept_toy(seeds=[0], steps=1, every=1, store=store)
    (path,) = store.root.glob("toy-*.npz")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(VaelibError, match="cannot read .*; delete it and the run is made again"):
        kept_toy(seeds=[0], steps=1, every=1, store=store)


def test_a_store_that_cannot_be_written_to_keeps_no_toy(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    assert len(kept_toy(seeds=[0], steps=1, every=1, store=Store(tmp_path / "runs")).results) == 5
