"""Word scores by either product are the layer's own; training takes the faster only if exact."""

import pytest
import torch
from torch import nn

from vaelib import products
from vaelib.build import resolve
from vaelib.errors import VaelibError
from vaelib.products import DIGITS, fastest_product, matmul_precision, word_scores


@pytest.fixture(params=[True, False], ids=["other", "usual"])
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> nn.Linear:
    """A layer, on a machine where the other product is faster, and where it is not."""
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(products, "_other_product_is_faster", lambda: request.param)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(24, 301)


@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (300, 24), (5, 3, 24), (0, 24)])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_scores_are_those_of_the_layer(
    layer: nn.Linear, shape: tuple[int, ...], bias: bool
) -> None:
    if not bias:
        layer.bias = None
    features = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    expected = nn.functional.linear(features.double(), layer.weight.double()).float()
    expected = expected if layer.bias is None else expected + layer.bias
    torch.testing.assert_close(word_scores(layer, features), expected, rtol=0, atol=2e-6)
    every_other = features.repeat_interleave(2, -1)[..., ::2]  # not contiguous
    assert torch.equal(word_scores(layer, every_other), word_scores(layer, features))


def test_with_gradients_it_is_the_layer(layer: nn.Linear) -> None:
    features = torch.ones(4, 24, requires_grad=True)
    scores = word_scores(layer, features)
    assert torch.equal(scores, layer(features))
    scores.sum().backward()
    assert features.grad is not None
    assert layer.weight.grad is not None


@torch.no_grad()
def test_other_precisions_are_the_layers(layer: nn.Linear) -> None:
    wide = layer.double()
    features = torch.ones(4, 24, dtype=torch.float64)
    assert torch.equal(word_scores(wide, features), wide(features))
    narrow = layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert word_scores(narrow, features.float()).dtype == torch.bfloat16


def test_the_choice_depends_on_the_machine_alone() -> None:
    assert products._other_product_is_faster() is products._other_product_is_faster()


@pytest.mark.parametrize(
    ("device", "amd", "error", "expected"),
    [
        ("cpu", True, 1e-6, "medium"),
        ("cpu", True, 1e-3, "highest"),  # the product is bfloat16's
        ("cpu", False, 1e-6, "highest"),
        ("cuda", True, 1e-6, "highest"),
    ],
)
def test_training_takes_the_faster_product_where_it_keeps_single_precision(
    monkeypatch: pytest.MonkeyPatch, device: str, amd: bool, error: float, expected: str
) -> None:
    monkeypatch.setattr(products, "_other_product_is_faster", lambda: amd)
    monkeypatch.setattr(products, "_error", lambda precision: error)
    assert fastest_product(device) == expected


def test_the_error_check_tells_single_precision_from_bfloat16() -> None:
    assert products._error("highest") < DIGITS / 5
    a, b = (torch.randn(64, 256, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    exact = a.double() @ b.double().T
    narrow = a.bfloat16().float() @ b.bfloat16().float().T
    assert float((narrow - exact).abs().max() / exact.abs().max()) > 10 * DIGITS
    with matmul_precision("high"):
        before = torch.get_float32_matmul_precision()
    assert before == "high" != torch.get_float32_matmul_precision()


def test_auto_is_resolved_before_a_run_has_a_name() -> None:
    asked = {"data": "grammar", "profile": "smoke", "device": "cpu"}
    auto = resolve("vae", **asked, matmul_precision="auto")
    assert auto.matmul_precision == fastest_product("cpu")
    assert auto == resolve("vae", **asked, matmul_precision=auto.matmul_precision)
    assert resolve("vae", **asked).matmul_precision == "highest"
    with pytest.raises(VaelibError, match="auto.*highest.*high.*medium"):
        resolve("vae", **asked, matmul_precision="fast")
    big = resolve("vae", data="grammar", profile="paper", device="cpu")
    assert big.matmul_precision == fastest_product("cpu")
