"""The fifteen claims of Coupled-VAE (Wu et al., ACL 2020) that a re-run can test.

Most compare a method (the base) with its coupled twin. A share of pairs is formed for each seed;
no effect is half of them. What is said of single texts is not asked of posts with responses, nor
the other way round. The mutual information is the paper's own estimate (T34), which needs Gaussian
posteriors here.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from importlib.resources import files
from itertools import pairwise

import pandas as pd

from vaelib.claims.dynamics import QUARTERS
from vaelib.claims.evidence import Check, Claim, Evidence, Sample, combine, nothing, numbered
from vaelib.claims.quantities import inversions, share
from vaelib.config import read_toml
from vaelib.published import published, tables

PAPER = "coupled_vae"
PUBLISHED_DATA = "ptb"
DIALOGUES = "Switchboard"  # in print

# The grid by label.
LM, DAE, VAE, COUPLED = "GRU-LM", "DAE", "VAE", "Coupled-VAE"
COUPLED_10 = "Coupled-VAE(lambda_m=10)"
BASES = (
    *("VAE", "beta(0.8)-VAE", "beta(1.2)-VAE", "vMF-VAE", "CNN-VAE", "WAE", "VAE-NF", "WAE-NF"),
    *("CycAnn-VAE", "PreFB-VAE", "Lagging-VAE"),
)
TWIN = "Coupled-{}".format
NO_MI = ("vMF-VAE", "VAE-NF", "WAE-NF")  # their posteriors are no Gaussians
NO_BLEU = ("Lagging-VAE",)  # in print
OF = "Coupled-VAE[{},{}={}]".format
KERNEL = [COUPLED, OF("RQ", "lambda_m", 1.0), OF("RQ", "lambda_m", 5.0)]
EUCLIDEAN = [OF("Eucl", "lambda_m", weight) for weight in (0.1, 1.0, 5.0)]
NO_RECONSTRUCTION = OF("RQ", "lambda_r", 0.0)
NO_MATCH = "{}(lambda_m=0)".format
SEQ2SEQ, CVAE = "GRU Encoder-Decoder", "CVAE"
CVAES = [CVAE, *map("Coupled-CVAE(lambda_m={})".format, (0.1, 0.5, 1.0, 2.0))]
LONG = {"yelp13": "Yelp", "yahoo": "Yahoo", "yahoo_standin": "Yahoo"}
LONG_TEXTS = "texts as long as those of Yelp or Yahoo"

# Tolerances. Shares of pairs, nats, or ratios.
SHARE_NLL, SHARE_KL, SHARE_MI, SHARE_BLEU = 0.8, 0.9, 0.9, 0.8  # 1, 2, 3, 4
SENSITIVITY = 2.0  # 6
GAUSSIAN_LOSS = 0.1  # 8, nats
GRADIENT_DAE, GRADIENT_COUPLED, GRADIENT_KL = 10.0, (1.1, 2.0), 1.1  # 9
EARLY, FORGIVEN_FALL = 0.25, 0.05  # 10
FORMER = "a rise to a peak inside the first quarter can leave its mean below the second's"  # 10
DIST_1, DIST_2 = 1.15, 1.4  # 11
COLLAPSED = 0.1  # 13, nats
PERPLEXITY = 1.05  # 14

# The printed columns that the study's file does not name, and their units in the results.

CLAIMS: list[Claim] = []
Test = Callable[[Evidence], list[Check]]


def published_results(dataset: str = "PTB") -> pd.DataFrame:
    """The printed rows of a data set, and those of the dialogues, as results.

    Args:
        dataset: "PTB", "Yelp" or "Yahoo".

    Returns:
        A results table of one seed, `latent_dim` 32, under the study's labels and columns.
    """
    return _printed(dataset).copy()


@cache
def _printed(dataset: str) -> pd.DataFrame:
    study = read_toml(files("vaelib") / "studies" / "coupled_vae.toml")
    printed = pd.concat(published(PAPER, name) for name in tables(PAPER))
    columns = study["print"]
    kept = printed[printed["dataset"].isin([dataset, DIALOGUES]) & printed["metric"].isin(columns)]
    scale = kept["metric"].str.endswith("(%)").map({True: 100.0, False: 1.0})
    labels = {k: v for item in study["item"] for k, v in item.get("published_as", {}).items()}
    names = {"label": kept["model"].replace(labels), "metric": kept["metric"].map(columns)}
    rows = kept.assign(**names, value=kept["value"] / scale)
    wide = rows.pivot_table("value", "label", "metric", aggfunc="first", sort=False)
    about = {"data": study["data"][dataset], "seed": 0, "latent_dim": 32}
    return wide.rename_axis(columns=None).reset_index().assign(**about)


def _claim(
    statement: str, source: str, page: str, needs: str = VAE, what: str = "single texts"
) -> Callable[[Test], Test]:
    """Decorator: number a claim, which waits where the data's grid lacks the run `needs`."""

    def add(check: Test) -> Test:
        @wraps(check)
        def gated(e: Evidence) -> list[Check]:
            if e.grid([needs]):
                return check(e)
            return [nothing("the claim", f"{what}, which alone it is about")]

        return numbered(CLAIMS, PAPER, statement, source, page)(gated)

    return add


def _pairs(e: Evidence, without: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """(base, twin) of the profile's grid."""
    pairs = [(base, TWIN(base)) for base in BASES if base not in without]
    return [pair for pair in pairs if len(e.grid(pair)) == 2]


def _share(
    e: Evidence,
    what: str,
    metric: str,
    low: float,
    holds: Callable[[float], bool],
    without: tuple[str, ...] = (),
) -> Check:
    """Of all pairs of the grid, the share whose twin less base fulfils `holds`."""
    pairs, name = _pairs(e, without), f"share of pairs with {what}"
    if not pairs:
        return nothing(name, "a method beside its coupled twin")
    return share(name, [e(twin, metric) - e(base, metric) for base, twin in pairs], holds, low)


def _ratio(a: Sample, b: Sample) -> Sample:
    return combine(lambda x, y: x / y if y else math.nan, a, b)


def _times(name: str, a: Sample, b: Sample, low: float, high: float = math.inf) -> Check:
    """How many times b a is; no effect is once."""
    return Check(name, _ratio(a, b), low, high, no_effect=1.0, direction=1)


@_claim(
    "A coupled twin has no higher NLL and no higher perplexity than its base.",
    "Table 1, Section 5.3",
    "tables",
)
def likelihood(e: Evidence) -> list[Check]:
    """In four fifths of the pairs of base and twin."""
    columns = {"NLL": "nll_iw500", "PPL": "ppl_iw500"}
    return [
        _share(e, f"no higher {name}", metric, SHARE_NLL, lambda x: x <= 0)
        for name, metric in columns.items()
    ]


@_claim("A coupled twin has no lower KL than its base.", "Table 1, Section 5.3", "tables")
def rate(e: Evidence) -> list[Check]:
    """In nine tenths of the pairs."""
    return [_share(e, "no lower KL", "kl", SHARE_KL, lambda x: x >= 0)]


@_claim(
    "A coupled twin has no lower mutual information than its base.",
    "Table 2, Section 5.4",
    "tables",
)
def information(e: Evidence) -> list[Check]:
    """In nine tenths of the pairs with Gaussian posteriors, by the estimate of T34."""
    return [_share(e, "no lower MI", "mi_skip_self", SHARE_MI, lambda x: x >= 0, NO_MI)]


@_claim(
    "On long texts a coupled twin reconstructs more words than its base.",
    "Table 2, Section 5.4",
    "tables",
)
def reconstruction(e: Evidence) -> list[Check]:
    """BLEU-1 rises in four fifths of the pairs; the paper itself excepts the shorter texts."""
    shares = {name: _bleu(Evidence(published_results(name))) for name in ("Yelp", "Yahoo")}
    told = ", ".join(f"{check.mean:.0%} on {name}" for name, check in shares.items())
    check = _bleu(e) if e.data in LONG else nothing(shares["Yelp"].name, LONG_TEXTS)
    return [replace(check, published=told)]


def _bleu(e: Evidence) -> Check:
    return _share(e, "a higher BLEU-1", "bleu_1", SHARE_BLEU, lambda x: x > 0, NO_BLEU)


@_claim(
    "With the weight lambda_m of the match grow KL, information and BLEU-1, for both distances, "
    "and the NLL is no lower at 5 than at 0.1.",
    "Table 3, Section 5.5",
    "ablation",
)
def grows_with_match(e: Evidence) -> list[Check]:
    """Every step from 0.1 to 1 to 5 is a rise; no effect is a rise in half of the steps."""
    checks = []
    for name, curve in (("RQ", KERNEL), ("Eucl", EUCLIDEAN)):
        for metric in ("kl", "mi_skip_self", "bleu_1"):
            checks.append(_steps(e, f"{metric}, {name}", curve, metric))
        rise = e(curve[-1], "nll_iw500") - e(curve[0], "nll_iw500")
        checks.append(Check(f"NLL at 5 less that at 0.1, {name}", rise, low=0.0))
    return checks


def _steps(e: Evidence, what: str, curve: list[str], metric: str) -> Check:
    """Steps of a curve without a rise, of which there must be none."""
    points, name = e.grid(curve), f"steps without a rise of {what}"
    if len(points) < 2:
        return nothing(name, "a second point of the curve")
    found = combine(lambda *c: sum(b <= a for a, b in pairwise(c)), *e.each(points, metric))
    return Check(name, found, high=0.0, no_effect=(len(points) - 1) / 2, direction=-1)


@_claim(
    "The Euclidean distance is more sensitive to lambda_m than the rational quadratic kernel.",
    "Table 3, Section 5.5",
    "ablation",
)
def sensitivity(e: Evidence) -> list[Check]:
    """At lambda_m = 5 it brings at least twice the information."""
    both = (e(curve[-1], "mi_skip_self") for curve in (EUCLIDEAN, KERNEL))
    return [_times("MI(Eucl)/MI(RQ) at lambda_m = 5", *both, SENSITIVITY)]


@_claim(
    "Without the coupled reconstruction (lambda_r = 0) the NLL is higher and the KL lower.",
    "Table 3, Section 5.5",
    "ablation",
)
def needs_reconstruction(e: Evidence) -> list[Check]:
    """lambda_r = 0 less lambda_r = 1, both at lambda_m = 0.1."""
    nll, kl = (e(NO_RECONSTRUCTION, m) - e(COUPLED, m) for m in ("nll_iw500", "kl"))
    return [
        Check("NLL at lambda_r = 0 less that at 1", nll, low=0.0),
        Check("KL at lambda_r = 0 less that at 1", kl, high=0.0),
    ]


@_claim(
    "Without the match (lambda_m = 0) flows and the sphere lose likelihood, the Gaussian hardly.",
    "Table 4, Section 5.6",
    "ablation",
)
def needs_match(e: Evidence) -> list[Check]:
    """NLL at lambda_m = 0 less the twin's with its own weight; a tenth of a nat for the VAE."""
    twins = [TWIN(base) for base in ("VAE-NF", "vMF-VAE", "VAE")]
    losses = {t: e(NO_MATCH(t), "nll_iw500") - e(t, "nll_iw500") for t in twins}
    bounds = {t: {"low": 0.0} for t in twins[:2]} | {COUPLED: {"high": GAUSSIAN_LOSS}}
    return [Check(f"NLL lost by {t}", loss, **bounds[t]) for t, loss in losses.items()]


@_claim(
    "More gradient of the reconstruction reaches the encoder of the DAE than the VAE's, coupling "
    "raises the VAE's, and its coupled path brings more than the DAE has.",
    "Table 5, Section 5.7",
    "gradients",
)
def gradients(e: Evidence) -> list[Check]:
    """Ratios of squared norms on the test set (T33)."""
    rec = {label: e(label, "grad_rec") for label in (DAE, VAE, COUPLED)}
    kl, signal = ([e(label, m) for label in (COUPLED, VAE)] for m in ("grad_kl", "grad_signal"))
    return [
        _times("reconstruction, DAE/VAE", rec[DAE], rec[VAE], GRADIENT_DAE),
        _times("reconstruction, coupled/VAE", rec[COUPLED], rec[VAE], *GRADIENT_COUPLED),
        _times("coupled reconstruction/DAE", e(COUPLED, "grad_coupled"), rec[DAE], 1.0),
        _times("KL, coupled/VAE", *kl, GRADIENT_KL),
        _times("decoding signal, coupled/VAE", *signal, 1.0),
    ]


@_claim(
    "While they train, the DAE's reconstruction gradient grows throughout, the VAE's peaks early "
    "and falls, its KL gradient falls, and the coupled signal's does not.",
    "Figures 2 and 5, Sections 3.1 and 5.7",
    "gradients",
)
def dynamics(e: Evidence) -> list[Check]:
    """Means over quarters of the training, of which `vaelib.claims.dynamics` says more.

    The fall of the signal is from its highest quarter to the last; 5 % of it is forgiven.
    """
    peak = Check("peak of VAE's reconstruction", e(VAE, "grad_rec_peak"), 0, EARLY, 0.5, -1)
    falls = _course(e, VAE, "grad_rec", rising=False)
    fall = combine(_fall, *_quarters(e, COUPLED_10, "grad_signal"))
    return [
        replace(falls, high=1.0, former=(-math.inf, 0.0), reason=FORMER),
        peak,
        _course(e, DAE, "grad_rec", rising=True),
        _course(e, VAE, "grad_kl", rising=False),
        Check("fall of the coupled decoding signal", fall, high=FORGIVEN_FALL),
    ]


def _fall(*curve: float) -> float:
    highest = max(curve)
    return 1 - curve[-1] / highest if highest else math.nan


def _quarters(e: Evidence, label: str, name: str) -> list[Sample]:
    return [e(label, f"{name}_q{i}") for i in range(1, QUARTERS + 1)]


def _course(e: Evidence, label: str, name: str, rising: bool) -> Check:
    """Inversions over the quarters; no effect is half of the steps."""
    found = combine(lambda *c: inversions(c, rising), *_quarters(e, label, name))
    what = f"inversions of {label}'s {name}, {'rising' if rising else 'falling'}"
    return Check(what, found, high=0.0, no_effect=(QUARTERS - 1) / 2, direction=-1)


@_claim(
    "Samples of Coupled-VAE (lambda_m = 10) are more diverse than the VAE's.",
    "Tables 6 and 9, Section 5.8",
    "diversity",
)
def diversity(e: Evidence) -> list[Check]:
    """Distinct words by 15 % more, distinct pairs of words by 40 %."""
    return [
        _times(f"Dist-{n}, coupled/VAE", e(COUPLED_10, m), e(VAE, m), low)
        for n, m, low in ((1, "distinct_1", DIST_1), (2, "distinct_2", DIST_2))
    ]


@_claim("The VAE has a lower NLL than the language model.", "Table 1, Section 5.3", "tables")
def better_than_no_code(e: Evidence) -> list[Check]:
    """GRU-LM, whose NLL is exact, less VAE."""
    return [Check("NLL of GRU-LM less VAE's", e(LM, "nll_iw500") - e(VAE, "nll_iw500"), low=0.0)]


@_claim(
    "On Yelp the vMF-VAE with a learned concentration collapses, and its coupled twin does not.",
    "Table 1",
    "tables",
)
def sphere(e: Evidence) -> list[Check]:
    """Below a tenth of a nat; elsewhere the twin is asked wherever its base has collapsed."""
    base, twin = e("vMF-VAE", "kl"), e(TWIN("vMF-VAE"), "kl")
    kept = combine(lambda a, b: b if a < COLLAPSED else math.nan, base, twin)
    yelp = published_results("Yelp").set_index("label")["kl"]
    checks = [
        Check(
            "KL of the twin of a collapsed vMF-VAE",
            kept,
            low=COLLAPSED,
            published=f"{yelp[TWIN('vMF-VAE')]:.1f} on Yelp",
        )
    ]
    if LONG.get(e.data) == "Yelp":
        checks.append(Check("KL of vMF-VAE", base, high=COLLAPSED, published=yelp["vMF-VAE"]))
    return checks


@_claim(
    "Responses become more diverse with lambda_m, the encoder-decoder's are the least so, and the "
    "perplexity rises by at most a twentieth.",
    "Table 8, Section 5.10",
    "dialogue",
    needs=CVAE,
    what="posts with responses",
)
def responses(e: Evidence) -> list[Check]:
    """Every step from CVAE to the largest lambda_m; ratios to CVAE."""
    points = e.grid(CVAES)
    lowest = [
        Check(f"Dist-{n} of CVAE less {SEQ2SEQ}'s", e(CVAE, m) - e(SEQ2SEQ, m), low=0.0)
        for n, m in ((1, "distinct_1"), (2, "distinct_2"))
    ]
    cost = combine(lambda own, *rest: max(rest) / own, *e.each(points, "ppl_iw500"), least=2)
    return [
        *(_steps(e, f"Dist-{n}", CVAES, f"distinct_{n}") for n in (1, 2)),
        *lowest,
        Check("highest PPL, coupled/CVAE", cost, high=PERPLEXITY),
    ]


@_claim("Cyclic annealing ends at a lower KL than the VAE.", "Table 1", "tables")
def cyclic(e: Evidence) -> list[Check]:
    """VAE less CycAnn-VAE; the cycles spend more time at the full weight."""
    return [Check("KL of VAE less CycAnn-VAE's", e(VAE, "kl") - e("CycAnn-VAE", "kl"), low=0.0)]
