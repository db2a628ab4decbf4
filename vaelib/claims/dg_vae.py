"""The fifteen claims of DG-VAE (Zhang et al., NeurIPS 2022) that a re-run can test.

Thresholds on units are fractions of the latent size D, those on mutual information fractions of
ln N, its bound over N test sentences, so that smaller runs are judged by the same sentence.
Checks that several claims share, with their tolerances, are in `vaelib.claims.quantities`.
"""

import math
from functools import partial
from importlib.resources import files

import pandas as pd

from vaelib.claims.evidence import Check, Claim, Evidence, Sample, combine, nothing, numbered
from vaelib.claims.quantities import (
    HALF,
    information,
    interpolate,
    monotone,
    nearly_all,
    rise,
    share,
    units,
)
from vaelib.config import read_toml
from vaelib.published import pivot

PAPER = "dg_vae"
PUBLISHED_DATA = "yahoo"

# The grid by label; points of a curve in the order in which the claims read it.
VAE, CYCLIC, SKIP, BOW = "VAE (default)", "cyclic-VAE", "skip-VAE", "bow-VAE"
DELTA, DELTA_VAE, DG = 0.15, "delta-VAE(0.15)", "DG-VAE(default)"
GAMMAS = (0.6, 0.7, 0.9, 1.2, 1.5, 1.8)
TARGETS = (4, 9, 16, 25, 36, 49)
BETAS = (0.8, 0.4, 0.2, 0.1, 0.0)
SIZES = (1, 2, 4, 8, 16, 32)
KAPPAS = (13, 25, 50, 100, 200)
BN, FB, BETA = "BN-VAE({})".format, "FB-VAE({})".format, "beta-VAE({})".format
DG_OF, VMF, DG_VMF = "DG-VAE(|b|={})".format, "vMF-VAE({})".format, "DG-vMF-VAE({})".format
BETA_CURVE = [VAE, *map(BETA, BETAS)]
FIGURE5 = [*map(BN, GAMMAS), *map(FB, TARGETS), *map(BETA, BETAS), *map(DG_OF, SIZES), DG]
GAUSSIAN = [VAE, CYCLIC, SKIP, BOW, DELTA_VAE, *FIGURE5]
SHORT_DATA = ("short_yelp", "short_yelp_standin", "snli", "snli_standin", "snli_full", "grammar")

# Tolerances. Nats, or fractions of D, of ln N, of the value compared with.
COLLAPSED_NATS, COLLAPSED_AU = 0.3, 0.1  # 1, 3, 10
SAME_AS_VAE_UNITS, SAME_AS_VAE_LIKELIHOOD = 1, 0.005  # 3
FORGIVEN_INVERSION = 0.02  # 4
BN_CONSISTENT_UP_TO, BN_INCONSISTENT_FROM, BN_BOUND = 0.9, 1.2, 0.95  # 6
FB_TARGET, FB_TARGET_FROM, FB_INCONSISTENT_FROM, FB_LATENT = 0.1, 9, 25, 32  # 7
BETA_FALL_FROM = 0.4  # 8
DELTA_RATE, DELTA_MI = 0.02, 0.1  # 9
SAME_POSTERIOR_NATS, TRADE_OFF_NATS = 1.0, 0.5  # 11
SAME_KL_NATS, VMF_SHARE, VMF_LOSS = 1e-4, 0.6, 0.003  # 12
U_SHAPE, FLAT, INTERPOLATION_LOSS = 0.95, 0.1, 0.01  # 13
TOY_SEEDS, TOY_GAP, TOY_FACTOR, TOY_KL = 5, 0.2, 5.0, (1.8, 2.7)  # 14
TOY_CHANCE, TOY_CHANCE_SLACK = 1 / 128, 2 / 128  # 14; two points more than chance
STANDARD_ERRORS = 2.0  # 15

CLAIMS: list[Claim] = []
_claim = partial(numbered, CLAIMS, PAPER)


def published_results() -> pd.DataFrame:
    """The printed Yahoo rows (Table 2, and comments in the authors' notebook) as results.

    Returns:
        A results table of one seed, with `latent_dim` 32 and `test_size` 10,000.
    """
    study = read_toml(files("vaelib") / "studies" / "dg_vae.toml")
    names = ("table2", "table2_extra_from_repo_comments")
    printed = pd.concat([pivot(PAPER, name, "Yahoo") for name in names])
    rows = printed.rename(columns=study["print"]).rename_axis("label").reset_index()
    return rows.assign(data=PUBLISHED_DATA, seed=0, latent_dim=32, test_size=10_000)


@_claim("The VAE with linear annealing collapses.", "Table 2", "tables")
def collapse(e: Evidence) -> list[Check]:
    """KL and MI below 0.3 nats, at most a tenth of the units active, all of them consistent."""
    return [
        Check("KL", e(VAE, "kl"), high=COLLAPSED_NATS),
        Check("MI", e(VAE, "mi_global"), high=COLLAPSED_NATS),
        Check("AU/D", units(e, VAE, "au"), high=COLLAPSED_AU),
        Check("CU/D", units(e, VAE, "cu_pq"), low=1.0, high=1.0),
    ]


@_claim("DG-VAE (default) is active and consistent at once.", "Table 2, Section 4.2", "tables")
def active_and_consistent(e: Evidence) -> list[Check]:
    """Nine tenths of the units active, of the units consistent, and of ln N as information."""
    return [
        nearly_all("AU/D", units(e, DG, "au")),
        nearly_all("CU/D", units(e, DG, "cu_pq")),
        nearly_all("MI/ln N", information(e, DG)),
    ]


@_claim("DG-VAE with |b| = 1 is the VAE.", "Section 3, Table 2", "ablation")
def size_one_is_vae(e: Evidence) -> list[Check]:
    """Collapsed, and within half a per cent of the VAE's prior likelihood."""
    one, slack = DG_OF(1), SAME_AS_VAE_LIKELIHOOD
    ours, reference = e(one, "prior_ll"), e(VAE, "prior_ll")
    change = combine(lambda a, b: (a - b) / abs(b), ours, reference)
    return [
        Check("KL", e(one, "kl"), high=COLLAPSED_NATS),
        Check("AU", e(one, "au"), high=SAME_AS_VAE_UNITS),
        Check("relative difference of prior_ll from the VAE", change, low=-slack, high=slack),
    ]


@_claim(
    "With the aggregation size |b| grow KL, active units and posterior likelihood, and from "
    "|b| = 4 on the prior likelihood falls.",
    "Table 2, Figure 2",
    "ablation",
)
def grows_with_size(e: Evidence) -> list[Check]:
    """Curves over |b|, one inversion of up to 2 % of the largest value forgiven in each.

    The rise of KL from end to end is checked too: a flat curve has no inversions either.
    """
    curve, tail = [*map(DG_OF, SIZES)], [DG_OF(size) for size in SIZES if size >= 4]
    rises = [monotone(e, curve, m, True, FORGIVEN_INVERSION) for m in ("kl", "au", "post_ll")]
    return [
        rise(e, curve, "kl", COLLAPSED_NATS),
        *rises,
        monotone(e, tail, "prior_ll", False, FORGIVEN_INVERSION),
    ]


@_claim("DG-VAE stays consistent for every |b|.", "Table 2, Figure 4", "ablation")
def consistent_for_every_size(e: Evidence) -> list[Check]:
    """CU at least 0.9 D for each aggregation size and for the default."""
    labels = e.grid([*map(DG_OF, SIZES), DG])
    return [nearly_all(f"CU/D of {label}", units(e, label, "cu_pq")) for label in labels] or [
        nothing("CU/D", "a DG-VAE")
    ]


@_claim(
    "BN-VAE keeps all units active, consistent up to gamma = 0.9 and not from 1.2 on, with a KL "
    "at its bound D gamma^2 / 2.",
    "Table 2, Figure 4",
    "tables",
)
def batch_norm(e: Evidence) -> list[Check]:
    """Fractions of the gammas that obey; the lowest KL relative to its bound."""
    gammas = [gamma for gamma in GAMMAS if e.grid([BN(gamma)])]
    au = [units(e, BN(gamma), "au") for gamma in gammas]
    small = [units(e, BN(g), "cu_pq") for g in gammas if g <= BN_CONSISTENT_UP_TO]
    large = [units(e, BN(g), "cu_pq") for g in gammas if g >= BN_INCONSISTENT_FROM]
    bounds = {gamma: _rate(e, BN(gamma), gamma**2 / 2) for gamma in gammas}
    return [
        share("share of gamma with AU = D", au, lambda x: x == 1),
        share("share of gamma <= 0.9 with CU = D", small, lambda x: x == 1),
        share("share of gamma >= 1.2 with CU = 0", large, lambda x: x == 0),
        *(Check(f"KL/bound at gamma = {g}", bound, low=BN_BOUND) for g, bound in bounds.items()),
    ]


def _rate(e: Evidence, label: str, per_unit: float) -> Sample:
    """KL of a run over D times `per_unit` nats."""
    return combine(lambda kl, d: kl / (d * per_unit), e(label, "kl"), e(label, "latent_dim"))


@_claim(
    "FB-VAE ends at its target KL with all units active, and its consistent units vanish as the "
    "target grows.",
    "Table 2, Figure 4",
    "tables",
)
def free_bits(e: Evidence) -> list[Check]:
    """KL within 10 % of the target from 9 on; targets are totals for D = 32 and scale with D."""
    targets = [target for target in TARGETS if e.grid([FB(target)])]
    au = [units(e, FB(target), "au") for target in targets]
    large = [units(e, FB(t), "cu_pq") for t in targets if t >= FB_INCONSISTENT_FROM]
    low, high = 1 - FB_TARGET, 1 + FB_TARGET
    ratios = {t: _rate(e, FB(t), t / FB_LATENT) for t in targets if t >= FB_TARGET_FROM}
    return [
        *(Check(f"KL/target at {t}", ratio, low, high) for t, ratio in ratios.items()),
        share("share of targets with AU = D", au, lambda x: x == 1),
        monotone(e, map(FB, TARGETS), "cu_pq", False),
        share("share of targets >= 25 with CU = 0", large, lambda x: x == 0),
    ]


@_claim(
    "As beta falls, KL and posterior likelihood of the beta-VAE grow, and from beta = 0.4 down its "
    "prior likelihood and consistency fall, to the worst of all at beta = 0.",
    "Table 2, Figures 2 and 4",
    "tables",
)
def beta_curve(e: Evidence) -> list[Check]:
    """Curves over beta from 1 (the VAE) down; the worst among all Gaussian runs of the grid."""
    zero, tail = BETA(0.0), [BETA(beta) for beta in BETAS if beta <= BETA_FALL_FROM]
    others = e.each([label for label in e.grid(GAUSSIAN) if label != zero], "prior_ll")
    excess = combine(lambda own, *rest: own - min(rest), e(zero, "prior_ll"), *others, least=2)
    return [
        *(monotone(e, BETA_CURVE, metric, True) for metric in ("kl", "post_ll")),
        *(monotone(e, tail, metric, False) for metric in ("prior_ll", "cu_pq")),
        Check("CU/D at beta = 0", units(e, zero, "cu_pq"), low=0.0, high=0.0),
        Check("prior_ll at beta = 0 less the worst other one", excess, high=0.0),
    ]


@_claim(
    "delta-VAE pays its committed rate and still collapses: no information, no active and no "
    "consistent unit.",
    "Table 2",
    "tables",
)
def committed_rate(e: Evidence) -> list[Check]:
    """KL within 2 % of D delta, MI below 0.1 nats, AU = CU = 0."""
    return [
        Check("KL/(D delta)", _rate(e, DELTA_VAE, DELTA), low=1 - DELTA_RATE, high=1 + DELTA_RATE),
        Check("MI", e(DELTA_VAE, "mi_global"), high=DELTA_MI),
        Check("AU", e(DELTA_VAE, "au"), high=0.0),
        Check("CU", e(DELTA_VAE, "cu_pq"), high=0.0),
    ]


@_claim(
    "A different annealing or decoder helps little: skip-, cyclic- and bow-VAE keep most units "
    "and most of the information unused.",
    "Table 2, Section 4.2",
    "tables",
)
def limited_effect(e: Evidence) -> list[Check]:
    """AU < D/2 and MI < ln(N)/2; the authors' bag-of-words loss (T2) changes nothing."""
    below = math.nextafter(HALF, 0)
    labels = (SKIP, CYCLIC, BOW)
    return [
        *(Check(f"AU/D of {label}", units(e, label, "au"), high=below) for label in labels),
        *(Check(f"MI/ln N of {label}", information(e, label), high=below) for label in labels),
        Check(f"KL of {BOW}", e(BOW, "kl"), high=COLLAPSED_NATS),
    ]


@_claim(
    "At equal posterior likelihood DG-VAE has no worse prior likelihood than beta-VAE, nor, on "
    "short sentences, than BN-VAE.",
    "Figure 2, Section 4.2",
    "figures",
)
def trade_off(e: Evidence) -> list[Check]:
    """prior_ll of each DG-VAE less that of the curve at DG-VAE's post_ll, per seed.

    Straight lines in (post_ll, prior_ll) join the runs of the curve in the order of its parameter;
    where it folds back its best prior_ll counts. A DG-VAE up to 1 nat outside its ends is held
    against the nearer end, one further out against nothing. |b| = 1 is the VAE and left out.
    """
    checks = _against(e, "beta-VAE", BETA_CURVE, -TRADE_OFF_NATS)
    if e.data in SHORT_DATA:
        checks += _against(e, "BN-VAE", [*map(BN, GAMMAS)], 0.0)
    return checks


def _against(e: Evidence, name: str, curve: list[str], low: float) -> list[Check]:
    points = e.grid(curve)
    if len(points) < 2:
        return [nothing(f"prior_ll less {name}'s", f"a second {name}")]
    others = [*e.each(points, "post_ll"), *e.each(points, "prior_ll")]
    checks = []
    for label in e.grid([DG, *map(DG_OF, SIZES[1:])]):
        sample = combine(_advantage, e(label, "post_ll"), e(label, "prior_ll"), *others)
        if sample.by_seed or sample.missing:
            checks.append(Check(f"prior_ll of {label} less {name}'s", sample, low=low))
    return checks or [nothing(f"prior_ll less {name}'s", f"a {name} as likely as a DG-VAE")]


def _advantage(post: float, prior: float, *others: float) -> float:
    half = len(others) // 2
    curve = zip(others[:half], others[half:], strict=True)
    return prior - interpolate(post, curve, SAME_POSTERIOR_NATS)


@_claim(
    "At the same concentration the DG-vMF-VAE has the KL of the vMF-VAE and mostly no worse prior "
    "likelihood.",
    "Figure 3",
    "figures",
)
def sphere(e: Evidence) -> list[Check]:
    """Same KL; prior_ll not lower for 60 % of the concentrations, never lower by over 0.3 %."""
    pairs = [(VMF(k), DG_VMF(k)) for k in KAPPAS if e.grid([VMF(k), DG_VMF(k)])]
    if not pairs:
        return [nothing("KL", "a vMF-VAE")]
    kls = [combine(lambda a, b: abs(b - a), *e.each(pair, "kl")) for pair in pairs]
    gains = [combine(lambda a, b: (b - a) / abs(a), *e.each(pair, "prior_ll")) for pair in pairs]
    return [
        share("share of kappa with no lower prior_ll", gains, lambda x: x >= 0, VMF_SHARE),
        Check(
            "worst relative change of prior_ll",
            combine(lambda *row: min(row), *gains),
            low=-VMF_LOSS,
        ),
        Check(
            "largest difference of KL",
            combine(lambda *row: max(row), *kls),
            high=SAME_KL_NATS,
            exact=True,
        ),
    ]


@_claim(
    "Along interpolations Rouge-L dips in the middle, the VAE's is flat and lowest at the ends, "
    "and half-way DG-VAE is no worse than the other active methods.",
    "Figure 5, Section 4.4",
    "interpolation",
)
def interpolation(e: Evidence) -> list[Check]:
    """Not collapsed is a run of Figure 5's families with MI of at least ln(N)/2."""
    models = e.grid(FIGURE5)
    active = [information(e, label) for label in models]
    middles, ends = [_middle(e, label) for label in models], [_ends(e, label) for label in models]
    rivals = e.each([BN(1.2), FB(36), BETA(0.2)], "rouge_l_05")
    path = [e(VAE, f"rouge_l_{i:02}") for i in range(11)]
    lead = combine(lambda own, *rest: own - max(rest), e(DG, "rouge_l_05"), *rivals)
    gap = combine(_lowest_end, _ends(e, VAE), *active, *ends)
    dips = combine(_share_of_dips, *active, *middles)
    return [
        Check("rouge_l_05 of DG-VAE less the best rival's", lead, low=-INTERPOLATION_LOSS),
        Check("share of active runs that dip", dips, low=1.0, no_effect=HALF, direction=1),
        Check("range/mean of the VAE's curve", combine(_spread, *path), high=FLAT),
        Check("VAE's ends less the lowest active ones", gap, high=0.0),
    ]


def _ends(e: Evidence, label: str) -> Sample:
    return combine(lambda a, b: (a + b) / 2, *(e(label, f"rouge_l_{i}") for i in ("00", "10")))


def _middle(e: Evidence, label: str) -> Sample:
    return combine(lambda m, end: m / end if end else 1.0, e(label, "rouge_l_05"), _ends(e, label))


def _spread(*path: float) -> float:
    mean = math.fsum(path) / len(path)
    return (max(path) - min(path)) / mean if mean else 0.0


def _of_active(row: tuple[float, ...]) -> list[float]:
    """The second half of `row` where the first half, a fraction of ln N, is at least `HALF`."""
    half = len(row) // 2
    return [y for x, y in zip(row[:half], row[half:], strict=True) if x >= HALF]


def _share_of_dips(*row: float) -> float:
    middles = _of_active(row)
    return sum(m <= U_SHAPE for m in middles) / len(middles) if middles else math.nan


def _lowest_end(own: float, *row: float) -> float:
    return own - min(_of_active(row), default=math.nan)


@_claim(
    "On the toy only DG-VAE is close to the prior in every dimension while its points stay apart.",
    "Appendix A",
    "toy",
    scope="toy",
)
def toy(e: Evidence) -> list[Check]:
    """Sum of the marginal KL(q||p): DG below 0.2, AAE and WAE above 5 x 0.2 (nats); five seeds."""
    slack = (0.0, TOY_CHANCE + TOY_CHANCE_SLACK)
    gap, line = partial(_toy, e, metric="marginal_kl"), TOY_GAP * TOY_FACTOR
    return [
        Check("marginal KL of dg", gap("dg"), high=TOY_GAP),
        Check("marginal KL of aae", gap("aae"), low=line, no_effect=TOY_GAP, direction=1),
        Check("marginal KL of wae", gap("wae"), low=line, no_effect=TOY_GAP, direction=1),
        Check("accuracy of vae", _toy(e, "vae", "accuracy"), *slack),
        Check("mean KL of dg", _toy(e, "dg", "mean_kl"), *TOY_KL),
    ]


def _toy(e: Evidence, method: str, metric: str) -> Sample:
    found = e(method, metric)
    short = found.by_seed and len(found.by_seed) < TOY_SEEDS
    return Sample({}, found.sources, (f"{TOY_SEEDS} seeds of {method}",)) if short else found


@_claim(
    "The density gap never exceeds the mean KL of the batch, and equals it at |b| = 1.",
    "Equation 12",
    "ablation",
    scope="analytic",
)
def bound(e: Evidence) -> list[Check]:
    """(gap - mean KL)/standard error on random batches; see `vaelib.claims.analytic`."""
    from vaelib.claims.analytic import gap_scores
    from vaelib.objectives import density_gap

    one, whole = (Sample(gap_scores(density_gap, size)) for size in (1, None))
    return [
        Check("(gap - KL)/s.e., whole batch", whole, high=STANDARD_ERRORS),
        Check("(gap - KL)/s.e., |b| = 1", one, low=-STANDARD_ERRORS, high=STANDARD_ERRORS),
    ]
