"""Combinations that make no sense are refused in one sentence, before anything is written."""

from pathlib import Path
from typing import Any

import pytest

from vaelib.build import resolve
from vaelib.errors import VaelibError
from vaelib.run import run
from vaelib.store import Store


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("vae", {"strategy": "decoder_only"}, "this model has an encoder or terms to train"),
        ("lm", {"extra_terms": ["coupled"]}, "coupled needs a posterior with something to learn"),
        ("gru_lm", {"extra_terms": ["coupled"]}, "PriorPosterior has nothing"),
        ("lm", {"extra_terms": ["mine"]}, "terms to train as well"),
        ("vae", {"extra_terms": ["coupled", "coupled"]}, "names something twice"),
        ("dae", {"select": "nll"}, "has no density, so its NLL is infinite; take select='dist"),
        ("vae", {"strategy": "multi_sample"}, "needs the regulariser 'importance_weighted'"),
        ("vae", {"strategy": "semi_amortized"}, "needs the regulariser 'refined_kl'"),
        ("prefb", {"pretrain": "foo"}, "unknown pretrain 'foo'"),
    ],
)
def test_it_is_refused_and_leaves_nothing(
    method: str, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    store = Store(tmp_path / "runs")
    with pytest.raises(VaelibError, match=said):
        run(method, data="grammar", profile="smoke", store=store, progress=False, **settings)
    assert not store.unfinished() if store.root.exists() else True


@pytest.mark.parametrize(
    ("method", "data", "said"),
    [
        ("bn", "pairs", "'bn' changes the posterior, which the backbone 'conditional' needs"),
        ("lm", "digits", "'lm' has a decoder of text, and digits holds images"),
    ],
)
def test_a_method_for_other_data_is_refused(method: str, data: str, said: str) -> None:
    with pytest.raises(VaelibError, match=said):
        resolve(method, data=data, profile="smoke")
