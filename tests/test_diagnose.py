"""The diagnosis of posteriors whose condition is known, and the files they come in."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from vaelib.diagnose import Diagnosis, diagnose, read_posteriors
from vaelib.errors import VaelibError
from vaelib.metrics import active_units, consistent_units, kl_normal

N = 400


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def column(mean: float = 0.0, spread: float = 0.0, logvar: float = 0.0, seed: int = 0) -> Tensor:
    """One dimension [2, N]: means with exactly this mean and variance, and log variances."""
    z = normal(N, seed=seed)
    z = (z - z.mean()) / z.std(correction=0)
    return torch.stack([mean + math.sqrt(spread) * z, torch.full_like(z, logvar)])


def posterior(*columns: Tensor) -> tuple[Tensor, Tensor]:
    mu, logvar = torch.stack(columns, -1)
    return mu, logvar


def told(found: Diagnosis) -> str:
    return " ".join(found.summary())


# ---------------------------------------------------------------- conditions


def test_a_collapsed_model() -> None:
    found = diagnose(torch.zeros(N, 3), torch.zeros(N, 3))
    assert (found.collapse, found.kl, found.au, found.cu_pq) == ("complete", 0, 0, 3)
    assert found.mi_global == pytest.approx(0, abs=0.1)  # sd sqrt(3 / 2 / 10,000) = 0.012
    assert found.mi_bound == math.log(N)
    assert (found.units["shape"] == "").all()
    assert "Collapsed: 0 of 3 dimensions are active" in told(found)
    assert "No holes seen" in told(found)


def test_a_sharp_dimension_that_is_always_the_same_tells_nothing() -> None:
    """However sharp: no grid is fine enough for all of them."""
    mu = torch.cat([0.9 * normal(2000, 1), torch.zeros(2000, 1)], 1)
    for logvar in (-10.0, -12.0, -20.0):
        found = diagnose(mu, torch.tensor([math.log(0.19), logvar]).expand(2000, 2))
        assert found.collapse == "partial", logvar
        assert found.units["mi"][1] == pytest.approx(0, abs=1e-3)


def test_information_of_a_dimension_stays_below_its_bound() -> None:
    found = diagnose(normal(2000, 3), torch.full((2000, 3), -20.0))
    assert (found.units["mi"] <= math.log(2000)).all()
    assert (found.units["mi"] > 7.4).all()


def test_one_far_example_hides_no_holes() -> None:
    mu = 0.95 * normal(2000, 1).expand(2000, 2).clone()
    mu[0] = 1e6
    found = diagnose(mu, torch.full((2000, 2), math.log(0.0975)))
    assert "Holes between dimensions" in " ".join(found.summary())


def test_sentences_agree_with_their_numbers() -> None:
    dead = diagnose(torch.zeros(200, 1), torch.zeros(200, 1)).summary()
    assert any("0 of 1 dimension is active" in line for line in dead)
    still = diagnose(normal(200, 2) * 1e-3, torch.tensor([0.0, -14.0]).expand(200, 2)).summary()
    assert not any("the others" in line for line in still)
    weak = diagnose(0.15 * normal(2000, 32), torch.zeros(2000, 32)).summary()
    assert any("(give or take 0.04)" in line for line in weak)


def test_a_rate_that_buys_nothing_is_collapse_too() -> None:
    """Every mean is 1: the rate is half a nat a dimension, and the same for every input."""
    found = diagnose(torch.ones(N, 2), torch.zeros(N, 2))
    assert found.kl == pytest.approx(1)
    assert found.collapse == "complete"
    assert "although 1.00 nats are paid for it" in told(found)
    assert found.units["shape"].tolist() == ["shifted", "shifted"]


def test_partial_collapse_names_the_dimensions() -> None:
    used = column(spread=0.9, logvar=math.log(0.1), seed=1)
    found = diagnose(*posterior(column(), used, column(spread=0.005, seed=2)))
    assert (found.collapse, found.au, found.cu_pq) == ("partial", 1, 3)
    assert found.units["active"].tolist() == [False, True, False]
    assert "1 of 3 dimensions are active; the others (0, 2) hardly depend" in told(found)


def test_a_healthy_model() -> None:
    columns = [column(spread=0.75, logvar=math.log(0.25), seed=i) for i in range(4)]
    found = diagnose(*posterior(*columns))
    assert (found.collapse, found.au, found.cu_pq) == ("none", 4, 4)
    assert 1 < found.mi_global < min(found.kl, found.mi_bound)
    assert "No collapse: 4 of 4" in told(found)
    assert "in each dimension the aggregated posterior matches the prior, and so do all" in told(
        found
    )


@pytest.mark.parametrize(
    ("bad", "shape"),
    [
        (column(mean=0.8, spread=0.5, logvar=math.log(0.5)), "shifted"),
        (column(spread=2.0, logvar=math.log(0.5)), "wide"),
        (column(spread=0.2, logvar=math.log(0.2)), "narrow"),
    ],
)
def test_how_a_dimension_differs_from_the_prior(bad: Tensor, shape: str) -> None:
    found = diagnose(*posterior(column(), bad))
    assert found.units["consistent"].tolist() == [True, False]
    assert found.units["shape"].tolist() == ["", shape]
    assert "Holes: in 1 of 2 dimensions" in told(found)
    assert f"does not match the prior ({shape}: 1)" in told(found)


def test_a_gap_in_the_middle_is_uneven() -> None:
    """Half the means at -0.99, half at 0.99, narrow: mean 0, variance 1, and a hole at 0."""
    mu = torch.tensor([-0.99, 0.99], dtype=torch.float64).repeat(N // 2)[:, None]
    found = diagnose(mu, torch.full_like(mu, math.log(1 - 0.99**2)))
    assert found.units["shape"].tolist() == ["uneven"]
    assert found.mi_global == pytest.approx(math.log(2), abs=0.05)
    assert "(uneven: 0)" in told(found)


@pytest.mark.parametrize("logvar", [-14.0, -44.0, -60.0, -80.0])
def test_however_sharp_the_posteriors_information_stays_at_its_bound(logvar: float) -> None:
    found = diagnose(normal(N, 4), torch.full((N, 4), logvar))
    assert found.mi_global == pytest.approx(math.log(N), abs=0.06)  # sd sqrt(4 / 2 / 10,000)
    assert found.collapse == "none"


def test_information_decides_not_the_scale_of_the_means() -> None:
    small = diagnose(0.05 * normal(N, 4), torch.full((N, 4), -14.0))
    assert (small.au, small.collapse) == (0, "none")
    assert "0, 1, 2, 3 tell of the input none the less" in told(small)
    wide = torch.where(normal(N, 4) < 0, -10.0, 1.0)
    told_by_variances = diagnose(torch.zeros(N, 4), wide)
    assert (told_by_variances.au, told_by_variances.collapse) == (0, "none")


def test_a_sharp_idle_dimension_beside_a_used_one_is_partial_collapse() -> None:
    used = column(spread=0.9, logvar=math.log(0.1), seed=1)
    found = diagnose(*posterior(used, column(spread=0.0025, logvar=-14.0, seed=2), column()))
    assert found.collapse == "partial"
    assert "1 tell of the input none the less" in told(found)
    assert "dimensions 2 hardly depend on the input" in told(found)


def test_dimensions_that_fit_one_by_one_can_leave_holes_together() -> None:
    shared = math.sqrt(0.75) * normal(4_000, 1)
    found = diagnose(shared.repeat(1, 2), torch.full((4_000, 2), math.log(0.25)))
    assert found.cu_pq == 2
    assert found.divergence == pytest.approx(-0.5 * math.log(1 - 0.75**2), abs=0.05)
    assert "Holes between dimensions" in told(found)
    apart = math.sqrt(0.75) * normal(4_000, 2)
    assert "and so do all together" in told(diagnose(apart, torch.full_like(apart, math.log(0.25))))


def test_means_far_apart_reach_the_bound() -> None:
    found = diagnose(20 * normal(N, 4), torch.full((N, 4), -4.0))
    assert found.mi_global == pytest.approx(math.log(N), abs=0.1)
    assert "near the most that can be seen, ln N = 5.99" in told(found)


# ---------------------------------------------------------------- numbers


def test_the_numbers_are_those_of_the_metrics() -> None:
    mu, logvar = normal(N, 5) * torch.tensor([0.05, 0.2, 0.8, 1.0, 2.0]), normal(N, 5, seed=1) - 1
    found = diagnose(mu, logvar)
    assert found.kl == pytest.approx(float(kl_normal(mu, logvar).sum(1).mean()))
    assert found.kl == pytest.approx(found.units["kl"].sum())
    assert found.au == active_units(mu) == found.units["active"].sum()
    assert found.cu_pq == consistent_units(mu, logvar) == found.units["consistent"].sum()
    assert (found.examples, found.dimensions) == (N, 5)
    pd.testing.assert_frame_equal(found.units, diagnose(mu.numpy(), logvar.numpy()).units)


def test_log_likelihoods_add_the_elbo() -> None:
    mu, logvar = torch.ones(N, 2), torch.zeros(N, 2)
    found = diagnose(mu, logvar, torch.full((N,), -30.0))
    assert (found.distortion, found.nll_elbo) == (30, pytest.approx(31))
    assert "Distortion 30.00 nats; NLL at most 31.00" in told(found)
    assert diagnose(mu, logvar).nll_elbo is None
    for wrong in (torch.zeros(N - 1), torch.full((N,), math.nan)):
        with pytest.raises(VaelibError, match="one finite number for each of the 400"):
            diagnose(mu, logvar, wrong)


def test_the_order_of_examples_and_dimensions_does_not_matter() -> None:
    mu, logvar = normal(N, 3) * torch.tensor([0.01, 1.0, 3.0]), normal(N, 3, seed=1)
    found, turned = diagnose(mu, logvar), diagnose(mu.flip(0, 1), logvar.flip(0, 1))
    pd.testing.assert_frame_equal(
        found.units, turned.units[::-1].set_index(found.units.index), rtol=1e-9
    )


def test_it_can_be_written_as_json() -> None:
    found = diagnose(normal(N, 12), torch.zeros(N, 12))
    rows = json.loads(json.dumps(found.to_dict(), default=float))
    assert [row["dimension"] for row in rows["units"]] == list(range(12))
    assert rows["summary"] == found.summary()
    assert "(wide: 0, 1, 2, 3, 4, 5, 6, 7 and 4 more)" in told(found)


def test_posteriors_that_are_none_are_refused() -> None:
    with pytest.raises(VaelibError, match="make them equal"):
        diagnose(torch.zeros(N, 2), torch.zeros(N, 3))
    with pytest.raises(VaelibError, match="NaN"):
        diagnose(torch.full((N, 2), math.nan), torch.zeros(N, 2))
    with pytest.raises(VaelibError, match="at least two"):
        diagnose(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(VaelibError, match="logvar is as large as 800, and beyond 80"):
        diagnose(torch.zeros(N, 2), torch.full((N, 2), -800.0))
    with pytest.raises(VaelibError, match="mu is as large as .*e\\+200, and beyond 1e\\+15"):
        diagnose(1e200 * normal(N, 2), torch.zeros(N, 2))


# ---------------------------------------------------------------- files


def test_both_kinds_of_files_give_back_what_was_written(tmp_path: Path) -> None:
    wanted = {
        "mu": normal(6, 12).numpy(),
        "logvar": normal(6, 12, seed=1).numpy(),
        "log_likelihoods": normal(6, seed=2).numpy(),
    }
    np.savez(tmp_path / "a.npz", order=np.arange(6), **wanted)
    columns = {f"{name}_{i}": wanted[name][:, i] for i in range(12) for name in ("logvar", "mu")}
    table = pd.DataFrame({"sentence": ["text"] * 6, **columns})
    table.assign(log_likelihoods=wanted["log_likelihoods"]).to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.npz", "a.csv"):
        found = read_posteriors(tmp_path / name)
        assert list(found) == list(wanted)
        for key, values in wanted.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-12)
        assert diagnose(**found).examples == 6, "and without a warning of a read-only array"
    table.rename(columns=" {} ".format).to_csv(tmp_path / "b.csv", index=False)
    assert diagnose(**read_posteriors(tmp_path / "b.csv")).examples == 6


def test_files_that_will_not_do_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VaelibError, match="unknown ending of a file of posteriors '.pt'"):
        read_posteriors("posterior.pt")
    with pytest.raises(OSError, match="none.npz"):
        read_posteriors(tmp_path / "none.npz")
    np.savez(tmp_path / "half.npz", mu=np.zeros((2, 2)))
    with pytest.raises(VaelibError, match="has no logvar"):
        read_posteriors(tmp_path / "half.npz")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(VaelibError, match="has no mu and no logvar"):
        read_posteriors(tmp_path / "other.csv")
    (tmp_path / "twice.csv").write_text("mu_0,mu_0,logvar_0\n1,2,0\n")
    with pytest.raises(VaelibError, match="the column 'mu_0' twice"):
        read_posteriors(tmp_path / "twice.csv")
    (tmp_path / "gap.csv").write_text("mu_0,mu_2,logvar_0,logvar_1\n1,1,0,0\n2,2,0,0\n")
    with pytest.raises(VaelibError, match="mu_1 and logvar_1 are not both there"):
        read_posteriors(tmp_path / "gap.csv")
    (tmp_path / "same.csv").write_text("mu_0,logvar_0,mu_00\n1,0,2\n2,0,1\n")
    with pytest.raises(VaelibError, match="it has both 'mu_0' and 'mu_00', of one dimension"):
        read_posteriors(tmp_path / "same.csv")
    for row in ("1,0,5", "1,0,"):  # a reader could take the first field for the row's name
        (tmp_path / "long.csv").write_text(f"mu_0,logvar_0\n{row}\n{row}\n")
        with pytest.raises(VaelibError, match="more fields than its header names"):
            read_posteriors(tmp_path / "long.csv")
    (tmp_path / "text.npz").write_text("mu_0,logvar_0\n1,0\n")
    with pytest.raises(VaelibError, match=r"cannot read .*text.npz: it is no .npz archive; write"):
        read_posteriors(tmp_path / "text.npz")
    (tmp_path / "words.csv").write_text("mu_0,logvar_0\none,two\n")
    with pytest.raises(VaelibError, match="mu in .*words.csv holds"):
        read_posteriors(tmp_path / "words.csv")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(VaelibError, match="cannot read .*broken.npz"):
        read_posteriors(tmp_path / "broken.npz")


class Marker:
    """Would say so if it were ever unpickled."""

    unpickled = False

    def __setstate__(self, state: object) -> None:
        Marker.unpickled = True


@pytest.mark.parametrize("name", ["log_likelihood", "log_px", "Logvar"])
def test_what_is_nearly_a_name_is_not_left_out_in_silence(tmp_path: Path, name: str) -> None:
    mu, logvar = np.zeros((5, 2)), np.zeros((5, 2))
    np.savez(tmp_path / "q.npz", mu=mu, logvar=logvar, **{name: np.zeros(5)}, labels=np.zeros(5))
    with pytest.raises(VaelibError, match=f"it holds '{name}', which is not read; name it 'log"):
        read_posteriors(tmp_path / "q.npz")
    (tmp_path / "q.csv").write_text(f"mu_0,logvar_0,{name}\n0,0,1\n1,0,1\n")
    with pytest.raises(VaelibError, match="which is not read"):
        read_posteriors(tmp_path / "q.csv")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    marked = Marker()
    marked.value = 1  # type: ignore[attr-defined]
    np.savez(tmp_path / "evil.npz", mu=np.array([marked], dtype=object), logvar=np.zeros((2, 2)))
    with pytest.raises(VaelibError, match=r"cannot read .*evil.npz"):
        read_posteriors(tmp_path / "evil.npz")
    assert not Marker.unpickled
