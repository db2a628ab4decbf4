"""Tables of items whose fractions are shown in per cent, of fabricated results."""

from pathlib import Path

import pandas as pd
import pytest

from vaelib import tables
from vaelib.claims.du_vae import BUDGETS
from vaelib.store import Store
from vaelib.studies import Study


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    rows = [
        {"label": label, "family": family, "value": None, "data": "grammar", "seed": seed}
        | {"profile": "laptop", "stale": False}
        | {f"probe_{n}": value + 0.01 * seed for n in BUDGETS}
        for label, family, value in (("VAE", "VAE", 0.57), ("DU-VAE(0.5, 0.8)", "DU 0.8", 0.8))
        for seed in (0, 1)
    ]
    made = Study("du_vae", "laptop", store=Store(tmp_path))
    monkeypatch.setattr(Study, "results", lambda self: pd.DataFrame(rows))
    return made


def test_both_numbers_of_a_cell_are_percent(study: Study) -> None:
    table = tables.present(study, "table2", "grammar").table
    cells = table.loc["DU-VAE(0.5, 0.8)"]
    assert cells["100 labels (%)"] == "88.91 | 80.5 ± 0.7"
    assert table.loc["VAE", "10000 labels (%)"] == "77.11 | 57.5 ± 0.7"


def test_characters_stand_beside_what_was_printed_of_omniglot(study: Study) -> None:
    """T13: print names DU-VAE by what is dropped in Table 3."""
    rows = study.results().assign(data="omniglot_standin", character_probe_15=0.25)
    rows["label"] = rows["label"].replace("DU-VAE(0.5, 0.8)", "DU-VAE(0.5, 0.9)")
    study.results = lambda: rows  # type: ignore[method-assign]
    shown = tables.present(study, "table3", "omniglot_standin")
    assert shown.table.loc["VAE", "15 labels (%)"].startswith("42.24 | 25")
    assert shown.table.loc["DU-VAE(0.5, 0.9)", "15 labels (%)"].startswith("52.47 | 25")
    assert study.compare("table3")["note"].eq("other data: direction only").all()


def test_images_stand_beside_nothing_in_print(study: Study) -> None:
    shown = tables.present(study, "table3_images", "grammar")
    assert shown.table.loc["VAE", "500 labels (%)"] == "57.5 ± 0.7"
    assert "an analogue of Table 3" in shown.caption


def test_data_without_runs_say_so(study: Study) -> None:
    shown = tables.present(study, "table2", "digits")
    assert shown.table.empty
    assert "No runs yet." in shown.notes
