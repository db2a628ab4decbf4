"""The fourteen claims of DU-VAE (Shen et al., IJCAI 2021) that a re-run can test.

Thresholds on units are fractions of the latent size D; thresholds in nats are as they stand, since
the paper's own floors (D gamma^2 / 2, D beta^2 / 2) are what scales with D. Most claims are about
text or about images alone, and say so on other data. Accuracies are fractions.
"""

from dataclasses import replace
from functools import cache, partial, wraps
from importlib.resources import files
from typing import Any

import pandas as pd

from vaelib.claims.evidence import Check, Claim, Evidence, Sample, Test, combine, nothing, numbered
from vaelib.claims.quantities import monotone, units
from vaelib.config import read_toml
from vaelib.published import pivot, published

PAPER = "du_vae"
PUBLISHED_DATA = "yahoo"
CHARACTERS = ("omniglot", "omniglot_standin")
IMAGES = (*CHARACTERS, "digits")
SYNTHETIC = "synthetic"

# The grid by label.
VAE, AE, AGG, FB, DELTA, MAE = "VAE", "AE", "Agg-VAE", "FB(3.2)", "delta-VAE(0.1)", "MAE"
IAF_BN, DU_IAF = "IAF+BN", "DU-IAF"
BN, DU, SHIFT = "BN-VAE({})".format, "DU-VAE({}, {})".format, "BN-VAE (shift {})".format
GAMMAS, KEEPS = (0.4, 0.5, 0.6, 0.7), (0.9, 0.8, 0.7, 0.6)
SHIFTS = (0.1, 0.3, 0.5, 0.7, 1.0)
TABLE1 = [DU(0.5, 0.9), DU(0.5, 0.8), DU(0.6, 0.8)]  # in the order in which the KL should rise
MAIN = DU(0.5, 0.8)
BN_PLANE, DU_PLANE = "BN-VAE(1.0), 2-D", "DU-VAE(1.0, 0.5), 2-D"
BUDGETS = (100, 500, 1000, 2000, 10_000)
FEW = "probe_100"

# Tolerances. Nats, or fractions of D, of the value compared with, of examples.
COLLAPSED = 0.5  # 1; an image model is alive above it
ALIVE_KL, ALIVE_SHARE, SAME_NLL = 3.0, 0.6, 0.003  # 2
AT_LEAST_BN = 0.95  # 4
IAF_BN_KL, DU_IAF_KL = 1.0, 2.0  # 7
SHIFT_UP_TO, SHIFT_RATE, SHIFT_NATS, SHIFT_MI, SHIFT_AU = 0.7, 0.15, 0.1, 0.2, 0.1  # 9
AS_MAJORITY, AS_MAJORITY_MOST = 0.01, 0.03  # 9, 11; with up to 2,000 labels, and with 10,000
AE_SLACK, ALIKE, DU_LEAD = 0.02, 0.05, 0.1  # 10
DELTA_RISE = 0.04  # 11
PURITY_SLACK, PURITY_LEAD, HILLS = 0.02, 0.3, 5  # 13
INTERIOR, EDGE = (0.8, 0.9), 0.6  # 14
STANDARD_ERRORS, ROUNDING = 2.0, 1e-9  # 6

CLAIMS: list[Claim] = []
_claim = partial(numbered, CLAIMS, PAPER)


# ---- What was printed ------------------------------------------------------------------------


@cache
def _study() -> dict[str, Any]:
    study = read_toml(files("vaelib") / "studies" / "du_vae.toml")
    return study | {"item": {item["id"]: item for item in study["item"]}}


def printed(name: str) -> pd.DataFrame:
    """A printed table as results: a row a run, indexed by its label; fractions, not percent.

    Args:
        name: An item of the study with columns, "table1", "table1_images", "tableS2", ...
    """
    item = _study()["item"][name]
    wide = pd.concat([pivot(PAPER, table, item["published_data"]) for table in item["published"]])
    labels = {model: model.replace(",", ", ") for model in wide.index} | item["published_as"]
    columns = _study()["print"] | item["columns"]
    rows = wide.rename(index=labels, columns=columns)[list(item["columns"].values())]
    return (rows / 100 if item.get("percent") else rows).rename_axis(None, axis=1)


@cache
def published_results() -> pd.DataFrame:
    """The printed rows as results: likelihoods on Yahoo, probes on Short-Yelp.

    Returns:
        A results table of one seed, with `latent_dim` 32, `test_size` 10,000, and as `majority`
        the most frequent number of Table S2 (T24).
    """
    one = pd.concat([printed("table1"), printed("tableS1")])
    rows = one.join(pd.concat([printed("table2"), printed("tableS2")]), how="outer")
    majority = float(published(PAPER, "tableS2")["value"].mode()[0]) / 100
    return _as_results(rows, PUBLISHED_DATA).assign(majority=majority)


def _as_results(rows: pd.DataFrame, data: str) -> pd.DataFrame:
    about = {"data": data, "seed": 0, "latent_dim": 32, "test_size": 10_000}
    return rows.rename_axis("label").reset_index().assign(**about)


@cache
def _image_results() -> pd.DataFrame:
    """The printed OMNIGLOT rows as results."""
    return _as_results(printed("table1_images"), "omniglot")


def _beside_images(check: Test) -> Test:
    """Decorator: on images the checks show what print says of OMNIGLOT, not of Yahoo."""

    @wraps(check)
    def shown(e: Evidence) -> list[Check]:
        found = check(e)
        if e.data not in IMAGES:
            return found
        theirs = {one.name: one.mean for one in check(Evidence(_image_results(), e.labels))}
        means = (theirs.get(one.name) for one in found)
        return [
            replace(one, published="–" if mean is None else mean)
            for one, mean in zip(found, means, strict=True)
        ]

    return shown


def _on_text(check: Test) -> Test:
    """Decorator: a claim about text, which images do not answer."""

    @wraps(check)
    def asked(e: Evidence) -> list[Check]:
        return [nothing("the claim", "text, which it is about")] if e.data in IMAGES else check(e)

    return asked


# ---- The claims ------------------------------------------------------------------------------


@_claim("The VAE collapses on text, and not on images.", "Table 1", "tables")
@_beside_images
def collapse(e: Evidence) -> list[Check]:
    """KL and MI below 0.5 nats on text; a KL above 0.5 nats on images, where print has 2.2."""
    if e.data in IMAGES:
        return [Check("KL, images", e(VAE, "kl"), low=COLLAPSED)]
    return [
        Check("KL", e(VAE, "kl"), high=COLLAPSED),
        Check("MI", e(VAE, "mi_global"), high=COLLAPSED),
    ]


@_claim(
    "DU-VAE(0.5, 0.8) uses its latent variable on text, at no price in likelihood.",
    "Table 1",
    "tables",
)
@_on_text
def active(e: Evidence) -> list[Check]:
    """KL above 3 nats, six tenths of it information, NLL at most 0.3 % above the VAE's.

    With D = 32 batch norm alone guarantees 4 nats; with D = 16 it is 2, and the line means more.
    """
    price = combine(lambda a, b: (a - b) / b, e(MAIN, "nll_iw500"), e(VAE, "nll_iw500"))
    return [
        Check("KL", e(MAIN, "kl"), low=ALIVE_KL),
        Check("MI/KL", e(MAIN, "mi_global") / e(MAIN, "kl"), low=ALIVE_SHARE),
        Check("relative difference of NLL from the VAE", price, high=SAME_NLL),
    ]


@_claim("On text BN-VAE has all units active, and DU-VAE fewer.", "Table 1", "tables")
@_on_text
def fewer_units(e: Evidence) -> list[Check]:
    """AU = D for BN-VAE at the gammas of Table 1; its DU-VAEs a unit or more below D, and it."""
    bn = e.grid([BN(gamma) for gamma in (0.5, 0.6)])
    fewer = {f"D - AU of {du}": e(du, "latent_dim") - e(du, "au") for du in TABLE1}
    fewer |= {
        f"AU of {BN(gamma)} less {du}": e(BN(gamma), "au") - e(du, "au")
        for gamma, du in zip((0.5, 0.5, 0.6), TABLE1, strict=True)
        if BN(gamma) in bn
    }
    return [
        *(Check(f"AU/D of {label}", units(e, label, "au"), 1.0, 1.0) for label in bn),
        *(Check(name, less, low=1, no_effect=0, direction=1) for name, less in fewer.items()),
    ]


@_claim(
    "At the same gamma DU-VAE with p = 0.8 has no smaller KL and information than BN-VAE.",
    "Table 1, Section 4.2",
    "tables",
)
@_beside_images
def more_than_bn(e: Evidence) -> list[Check]:
    """Ratios of KL and of MI, at least 0.95, at each gamma where both are run."""
    pairs = [(BN(gamma), DU(gamma, 0.8)) for gamma in GAMMAS]
    checks = [
        Check(f"{name} of {du} / {bn}", e(du, metric) / e(bn, metric), low=AT_LEAST_BN)
        for bn, du in pairs
        for name, metric in (("KL", "kl"), ("MI", "mi_global"))
        if len(e.grid([bn, du])) == 2
    ]
    return checks or [nothing("KL", "a BN-VAE and a DU-VAE of one gamma")]


@_claim(
    "The KL grows with gamma, and with the share of variances that are dropped.",
    "Table 1, Figure 2",
    "figures",
)
@_beside_images
def grows(e: Evidence) -> list[Check]:
    """The three settings of Table 1 in their order; then each curve of the grid, none inverted.

    Dropping nothing (p = 1) is the BN-VAE of the released code (T24a).
    """
    first, second, third = (e(label, "kl") for label in TABLE1)
    down_p = {gamma: [BN(gamma), *(DU(gamma, p) for p in KEEPS)] for gamma in GAMMAS}
    up_gamma = {p: [DU(gamma, p) for gamma in GAMMAS] for p in KEEPS}
    curves = [(f"as p falls, gamma = {gamma}", runs) for gamma, runs in down_p.items()]
    curves += [(f"as gamma grows, p = {p}", runs) for p, runs in up_gamma.items()]
    return [
        Check(f"KL of {TABLE1[1]} less {TABLE1[0]}", second - first, low=0.0),
        Check(f"KL of {TABLE1[2]} less {TABLE1[1]}", third - second, low=0.0),
        *(
            replace(monotone(e, runs, "kl", True), name=f"inversions of kl {along}")
            for along, runs in curves
            if len(e.grid(runs)) > 1
        ),
    ]


@_claim(
    "Variance dropout keeps the mean variance, raises the diversity MPD and lowers the "
    "uncertainty CE, the more the more is dropped, and never below 0.",
    "Proposition 1",
    "figures",
    scope="analytic",
)
def proposition(e: Evidence) -> list[Check]:
    """Random posteriors through the package's dropout; see `vaelib.claims.analytic_du`."""
    from vaelib.claims.analytic_du import KEEPS as kept
    from vaelib.claims.analytic_du import changes, variance_scores

    found = {name: Sample(by_seed) for name, by_seed in changes().items()}
    slack = (-STANDARD_ERRORS, STANDARD_ERRORS)
    return [
        Check("least rise of MPD from p to p", found["mpd"], low=0.0),
        Check("largest change of CE from p to p", found["ce"], high=0.0),
        Check("least entropy of a dimension", found["entropy"], low=-ROUNDING),
        *(
            Check(f"change of variance/s.e., p = {p}", Sample(variance_scores(p)), *slack)
            for p in kept
        ),
    ]


@_claim("On text IAF+BN collapses, and DU-IAF does not.", "Table 1, Section 4.2", "tables")
@_on_text
def flows(e: Evidence) -> list[Check]:
    """KL below 1 nat, and above 2."""
    return [
        Check(f"KL of {IAF_BN}", e(IAF_BN, "kl"), high=IAF_BN_KL),
        Check(f"KL of {DU_IAF}", e(DU_IAF, "kl"), low=DU_IAF_KL),
    ]


@_claim(
    "An autoregressive flow only ever lowers the entropy: CE of z_0 is above CE of z_T.",
    "Appendix D",
    "figures",
    scope="analytic",
)
def entropy_of_flows(e: Evidence) -> list[Check]:
    """The share of samples of random flows that lose entropy: all of them."""
    from vaelib.claims.analytic_du import entropy_falls

    return [Check("share of samples with |dz_T/dz_0| < 1", Sample(entropy_falls()), 1.0, 1.0)]


@_claim(
    "With a fixed shift of the means the KL is positive and all posteriors are the same.",
    "Tables S1 and S2",
    "tables",
)
@_on_text
def fixed_shift(e: Evidence) -> list[Check]:
    """For shifts up to 0.7: KL at D beta^2/2, no information, few units, a probe that guesses.

    The KL may be off by 15 % or 0.1 nats, whichever is more; the accuracy by one point with up to
    2,000 labels and by three with 10,000.
    """
    shifts = [beta for beta in SHIFTS if beta <= SHIFT_UP_TO and e.grid([SHIFT(beta)])]
    if not shifts:
        return [nothing("KL", "a BN-VAE with a fixed shift")]
    return [check for beta in shifts for check in _shifted(e, SHIFT(beta), beta)]


def _shifted(e: Evidence, label: str, beta: float) -> list[Check]:
    few = [_above_majority(e, label, n) for n in BUDGETS[:-1]]
    most = _above_majority(e, label, BUDGETS[-1])
    off = combine(lambda kl, d: _off(kl, d * beta**2 / 2), e(label, "kl"), e(label, "latent_dim"))
    farthest = combine(lambda *row: max(map(abs, row)), *few)
    return [
        Check(f"(KL - floor)/tolerance of {label}", off, -1.0, 1.0),
        Check(f"MI of {label}", e(label, "mi_global"), high=SHIFT_MI),
        Check(f"AU/D of {label}", units(e, label, "au"), high=SHIFT_AU),
        Check(f"probe and majority apart, {label}", farthest, high=AS_MAJORITY),
        Check(f"probe of 10,000 less majority, {label}", most, -AS_MAJORITY_MOST, AS_MAJORITY_MOST),
    ]


def _off(kl: float, floor: float) -> float:
    return (kl - floor) / max(SHIFT_RATE * floor, SHIFT_NATS)


def _above_majority(e: Evidence, label: str, labels: int) -> Sample:
    return e(label, f"probe_{labels}") - e(label, "majority")


@_claim(
    "With 100 labels a probe reads most from DU-VAE, then BN-VAE and the AE, then FB and Agg-VAE, "
    "then the VAE, and least from delta-VAE and MAE.",
    "Table 2",
    "probes",
)
@_on_text
def few_labels(e: Evidence) -> list[Check]:
    """Differences of accuracy: DU >= BN >= AE - 0.02 > FB, Agg, alike within 0.05 > VAE > rest.

    DU-VAE leads the VAE by 0.1 or more.
    """
    if e.data == SYNTHETIC:
        return [nothing("the claim", "sentences with a sentiment, which it is about")]
    of, gain = partial(e, metric=FEW), {"no_effect": 0.0, "direction": 1}
    losers = combine(lambda *row: max(row), of(DELTA), of(MAE))
    checks = [
        Check("accuracy of DU-VAE less VAE", of(MAIN) - of(VAE), DU_LEAD, **gain),
        Check("accuracy of DU-VAE less BN-VAE", of(MAIN) - of(BN(0.6)), 0.0),
        Check("accuracy of BN-VAE less AE", of(BN(0.6)) - of(AE), -AE_SLACK),
        Check("accuracy of VAE less delta-VAE and MAE", of(VAE) - losers, 0.0),
    ]
    for label in (middle := e.grid([FB, AGG])):
        checks.append(Check(f"accuracy of AE less {label}", of(AE) - of(label), AE_SLACK, **gain))
        checks.append(Check(f"accuracy of {label} less VAE", of(label) - of(VAE), 0.0))
    if len(middle) == 2:
        checks.append(Check("accuracy of FB less Agg-VAE", of(FB) - of(AGG), -ALIKE, ALIKE))
    return checks


@_claim("From delta-VAE a probe reads about the most frequent label alone.", "Table 2", "probes")
@_on_text
def delta_probe(e: Evidence) -> list[Check]:
    """Accuracy less the share of the majority: not below it by 0.01, nor above by 0.04."""
    return [
        Check(
            f"probe of {n:,} less majority", _above_majority(e, DELTA, n), -AS_MAJORITY, DELTA_RISE
        )
        for n in BUDGETS
    ]


@_claim("On text MAE has a worse likelihood than the VAE.", "Table 1, Section 4.2", "tables")
@_on_text
def mae(e: Evidence) -> list[Check]:
    """NLL of MAE less the VAE's, nats."""
    return [Check("NLL of MAE less VAE", e(MAE, "nll_iw500") - e(VAE, "nll_iw500"), low=0.0)]


@_claim(
    "On synthetic text DU-VAE finds the five components: as pure clusters as BN-VAE, far purer "
    "than the VAE, and five hills in the aggregated posterior where the VAE has one.",
    "Figure 1, Section 4.3",
    "synthetic",
)
def five_components(e: Evidence) -> list[Check]:
    """Purity of k-means with five clusters of the means; hills as of `vaelib.claims.clusters`."""
    if e.data not in ("", SYNTHETIC):
        return [nothing("purity", "the synthetic text, which it is about")]
    du, bn, vae = (e(label, "purity") for label in (DU_PLANE, BN_PLANE, VAE))
    lead = PURITY_SLACK + PURITY_LEAD
    return [
        Check("purity of DU-VAE less BN-VAE", du - bn, low=-PURITY_SLACK),
        Check("purity of BN-VAE less VAE", bn - vae, lead, no_effect=0, direction=1),
        Check("hills of DU-VAE", e(DU_PLANE, "maxima"), HILLS, HILLS),
        Check("hills of VAE", e(VAE, "maxima"), 1, 1),
    ]


@_claim("The best p lies inside the grid, at 0.8 or 0.9, not at its end.", "Figure 2", "figures")
def interior(e: Evidence) -> list[Check]:
    """Over gamma and p (p = 1 is BN-VAE), whether the lowest NLL of a seed is at p = 0.8 or 0.9.

    No effect is the share of such p among those of the grid.
    """
    places = {BN(gamma): 1.0 for gamma in GAMMAS}
    places |= {DU(gamma, p): p for p in KEEPS for gamma in GAMMAS}
    runs = e.grid(places)
    keeps = [places[label] for label in runs]
    if EDGE not in keeps:
        return [nothing("best p is 0.8 or 0.9", f"a DU-VAE with p = {EDGE}")]
    best = combine(lambda *nll: keeps[nll.index(min(nll))] in INTERIOR, *e.each(runs, "nll_iw500"))
    share = sum(p in INTERIOR for p in keeps) / len(keeps)
    said = _study()["item"]["figure2"]["best"]["Yahoo"][1] in INTERIOR
    name = "best p is 0.8 or 0.9"
    return [Check(name, best, 1.0, no_effect=share, direction=1, published=float(said))]
