"""Tables of the chapter across the papers: ranks, rank correlations, costs, what several print."""

from collections import defaultdict
from collections.abc import Sequence

import pandas as pd

from vaelib.errors import check_name
from vaelib.published import pivot
from vaelib.studies import Study

NAMES = {
    "dg_vae": "DG-VAE",
    "du_vae": "DU-VAE",
    "vae_mine": "VAE-MINE",
    "coupled_vae": "Coupled-VAE",
}
# Methods that several papers print, and the row of each paper.
SHARED: dict[str, dict[str, str]] = {
    "language model": {"vae_mine": "LSTM-LM", "coupled_vae": "GRU-LM"},
    "VAE": {"dg_vae": "VAE (default)", "du_vae": "VAE", "coupled_vae": "VAE"},
    "beta-VAE": {"dg_vae": "beta-VAE(0.4)", "du_vae": "beta-VAE*(0.4/0.4/0.8)"},
    "cyclic": {"dg_vae": "cyclic-VAE", "vae_mine": "CyclicalVAE", "coupled_vae": "CycAnn-VAE"},
    "free bits": {"dg_vae": "FB-VAE(4)", "du_vae": "FB(0.1)", "coupled_vae": "PreFB-VAE"},
    "delta-VAE": {"dg_vae": "delta-VAE(0.15)", "du_vae": "delta-VAE(0.1)"},
    "BN-VAE": {"dg_vae": "BN-VAE(0.6)", "du_vae": "BN-VAE(0.6/0.6/0.5)"},
    "bag of words": {"dg_vae": "bow-VAE", "vae_mine": "VAE-BOW"},
    "lagging": {"du_vae": "Agg-VAE", "vae_mine": "LaggingVAE", "coupled_vae": "Lagging-VAE"},
    "SA-VAE": {"du_vae": "SA-VAE*", "coupled_vae": "SA-VAE"},
}
# Data sets of several papers, and whether these read the same texts (T39).
SAME_TEXTS = {"Yahoo": True, "PTB": True, "Yelp": False}
_RESULTS = {"dg_vae": "table2", "du_vae": "table1", "vae_mine": "table2", "coupled_vae": "table1"}
# Where each paper prints a quantity: its table, its name for it, the estimator.
QUANTITIES: dict[str, dict[str, tuple[str, str, str]]] = {
    "NLL": {
        "dg_vae": ("table2", "priorLL", "mixture"),
        "du_vae": ("table1", "NLL", "importance"),
        "vae_mine": ("table2", "NLL(=negative ELBO)", "bound"),
        "coupled_vae": ("table1", "NLL", "importance"),
    },
    "KL": {paper: (table, "KL", "mean") for paper, table in _RESULTS.items()},
    "MI": {
        "dg_vae": ("table2", "MI", "global"),
        "du_vae": ("table1", "MI", "global"),
        "vae_mine": ("table2", "MI", "aggregate_kl"),
        "coupled_vae": ("table2", "MI", "skip_self"),
    },
    "AU": {p: (t, "AU", "variance") for p, t in _RESULTS.items() if p != "coupled_vae"},
}
# Rows with an estimator of their own: an exact likelihood, information within a batch (T34, T45).
OTHERWISE = {
    ("NLL", "LSTM-LM"): "exact",
    ("NLL", "GRU-LM"): "exact",
    ("MI", "Agg-VAE"): "in_batch",
    ("MI", "SA-VAE*"): "in_batch",
    ("MI", "Lagging-VAE"): "in_batch",
}


def shared_rows() -> pd.DataFrame:
    """How each paper calls its row of a method that several print: a row a method."""
    found = pd.DataFrame.from_dict(SHARED, orient="index", columns=list(NAMES))
    return found.rename(columns=NAMES).rename_axis("method").reset_index()


def printed_by_several(quantity: str) -> pd.DataFrame:
    """What several papers print of a quantity, a row a data set and method that two of them have.

    Args:
        quantity: "NLL", "KL", "MI" or "AU".

    Returns:
        The columns data, method, one for each paper (text, with all printed digits) and "largest
        difference": between numbers of one estimator on the same texts, None without two such.

    Raises:
        VaelibError: The quantity is unknown.
    """
    sources = QUANTITIES[check_name(quantity, list(QUANTITIES), "quantity")]
    heads = {
        paper: f"{NAMES[paper]}, T{table[1:-1]} {table[-1]}: {metric}"
        for paper, (table, metric, _) in sources.items()
    }
    cells = {
        paper: pivot(paper, table, text=True)[metric].dropna().to_dict()
        for paper, (table, metric, _) in sources.items()
    }
    rows = []
    for data, same in SAME_TEXTS.items():
        for method, names in SHARED.items():
            here = {p: (data, row) for p, row in names.items() if (data, row) in cells.get(p, {})}
            if len(here) < 2:
                continue
            alike = defaultdict(list)
            for paper, (_, row) in here.items():
                estimator = OTHERWISE.get((quantity, row), sources[paper][2])
                alike[estimator].append(float(cells[paper][data, row]))
            spreads = [max(v) - min(v) for v in alike.values() if len(v) > 1 and same]
            found = {heads[paper]: cells[paper][place] for paper, place in here.items()}
            widest = round(max(spreads), 2) if spreads else None
            rows.append({"data": data, "method": method, **found, "largest difference": widest})
    return pd.DataFrame(rows, columns=["data", "method", *heads.values(), "largest difference"])


def ranks(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Place of each label by a metric, lowest value first: best, worst, and mean over seeds.

    Args:
        results: A results table of one data set; a label without the number has no place.
        metric: A column of it.
    """
    rows = results.dropna(subset=[metric]) if len(results) else pd.DataFrame()
    if rows.empty:
        return pd.DataFrame(columns=["label", "best", "worst", "mean", "seeds"])
    placed = rows.assign(place=rows.groupby("seed")[metric].rank(method="min"))
    found = placed.groupby("label")["place"].agg(["min", "max", "mean", "count"])
    found = found.sort_values("mean", kind="stable").reset_index()
    named = {"min": "best", "max": "worst", "count": "seeds"}
    return found.rename(columns=named).astype({"best": int, "worst": int})


def rank_correlations(results: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Spearman's rank correlation of some columns over all runs that have every one of them."""
    rows = results.reindex(columns=list(columns)).dropna()
    found = rows.corr("spearman").round(2) if len(rows) > 2 else pd.DataFrame()
    return found.rename_axis("column").reset_index() if len(found) else found


def costs(study: Study, data: str, reference: str) -> pd.DataFrame:
    """Seconds of training and evaluation of each label, and as a multiple of one label's.

    Of the first seed alone: seeds may have been made at different times, on different machines, and
    then their times do not compare. `started` says when a run was: those of another hour may have
    shared their machine with other work. `sentences` says which methods were given fewer of them,
    so that a multiple of theirs is not one of cost per sentence.

    Args:
        study: A study.
        data: One of its data sets.
        reference: The label to divide by.
    """
    columns = ["label", "train s", "evaluate s", "train ratio", "sentences", "started"]
    here = [(plan, run) for plan, run in study.found if plan.data == data]
    first = min((plan.seed for plan, _ in here), default=0)
    rows = [
        {
            "label": plan.label,
            "train s": run.provenance["train_seconds"],
            "evaluate s": run.provenance["evaluate_seconds"],
            "sentences": run.config.train_size,
            "started": run.provenance["started"],
        }
        for plan, run in here
        if plan.seed == first
    ]
    found = pd.DataFrame(rows, columns=columns)
    base = found["train s"][found["label"] == reference].max()
    found["train ratio"] = found["train s"] / base
    return found.sort_values("train ratio", kind="stable", ignore_index=True).round(2)
