"""What `vaelib bench` counts is what a step does, and its shares are of the same device."""

import pytest

from vaelib import throughput as module
from vaelib.build import resolve
from vaelib.errors import VaelibError
from vaelib.throughput import Load, throughput

TINY = Load("dg", "lstm", "ptb", 40, 5)


def test_the_operations_of_a_step_are_those_of_its_products() -> None:
    config = resolve("vae", data="ptb", profile="smoke", device="cpu", batch_size=8)
    training = module._training(Load("vae", "lstm", "ptb", 40, 5), config)
    x = training.batches[0]
    assert x.shape == (8, 7)
    words, state, code = config.embedding_dim, config.hidden_dim, config.latent_dim
    read = 8 * 7 * 4 * state * (words + state)
    written = 8 * 6 * (4 * state * (words + code + state) + state * 40)
    heads = 8 * (2 * code * state + code * state)
    assert module._counted(training, x) == 3 * 2 * (read + written + heads)


def test_a_device_is_measured_alone_and_shared() -> None:
    table = throughput("cpu", seconds=0.05, loads=[TINY], profile="smoke", together=2)
    row = table.iloc[0]
    assert (row["method"], row["device"], row["precision"]) == ("dg", "cpu", "fp32")
    assert row["tokens/s"] == pytest.approx(32 * 7 * 1e3 / row["ms a step"])
    assert 0 < row["% of a product"] < 100
    assert row["TFLOP/s"] > 0 < row["GB/s at least"]
    assert row["gain"] == pytest.approx(row["tokens/s, 2 at once"] / row["tokens/s"])


@pytest.mark.parametrize("wrong", [{"together": 0}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(VaelibError, match="together=.*seconds="):
        throughput("cpu", loads=[TINY], profile="smoke", **wrong)


def test_a_process_that_fails_ends_the_others() -> None:
    config = resolve("vae", data="ptb", profile="smoke", device="cpu")
    with pytest.raises(RuntimeError, match="from=4"):
        module._at_once(Load("vae", "lstm", "ptb", 3, 5), config, 0.05, 2)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_card_is_measured(precision: str) -> None:
    table = throughput("cuda", precision, seconds=0.5, loads=[TINY], together=2)
    assert 0 < table["peak MB"].item() < 1_000, "the model's, not the large product's"
