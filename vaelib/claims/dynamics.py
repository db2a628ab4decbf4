"""What only the epochs of a run know: how the numbers it tracked moved while it trained."""

import numpy as np
import pandas as pd

from vaelib.run import Run

QUARTERS = 4
# Logged after every epoch of every run; whatever else was is tracked (`Config.track`).
ALWAYS = ("valid_distortion", "valid_elbo", "valid_nll", "valid_objective", "valid_rate")


def tracked(run: Run) -> pd.DataFrame:
    """What a run followed on its validation examples, one row an epoch.

    Returns:
        `share`, the part of the training that was done, in (0, 1]; `weight` of the regulariser at
        the end of the epoch; and the tracked numbers under their own names. No rows where nothing
        was tracked.
    """
    epochs = run.epochs
    names = [c for c in epochs.columns if c.startswith("valid_") and c not in ALWAYS]
    if not names:
        return pd.DataFrame()
    table = epochs[names].rename(columns=lambda name: name.removeprefix("valid_")).astype(float)
    table.insert(0, "share", np.arange(1, len(table) + 1) / len(table))
    table.insert(1, "weight", epochs["weight"].astype(float))
    return table


def dynamics(run: Run) -> dict[str, float]:
    """A few numbers about the course of each tracked one, for the table of results.

    Args:
        run: A finished run.

    Returns:
        For a tracked number `name`: `name_q1` ... `name_q4`, its means over the quarters of those
        epochs in which the regulariser has weight (of all epochs where it never has any); and
        `name_peak`, the part of the whole training after which it was largest. Empty where nothing
        was tracked, or for fewer than four such epochs.
    """
    table = tracked(run)
    if table.empty:
        return {}
    weighed = table[table["weight"] > 0] if (table["weight"] > 0).any() else table
    if len(weighed) < QUARTERS:
        return {}
    found: dict[str, float] = {}
    for name in table.columns[2:]:
        if table[name].notna().all():
            parts = np.array_split(weighed[name].to_numpy(), QUARTERS)
            found |= {f"{name}_q{i}": float(part.mean()) for i, part in enumerate(parts, 1)}
            found[f"{name}_peak"] = float(table["share"][table[name].idxmax()])
    return found
