"""Matrix products in single precision: the faster of two, for word scores and in training.

On processors of AMD, torch's product for single precision (MKL) runs at half the rate of oneDNN's.
Which one is taken depends on the machine alone, so that a run keeps its bits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

DIGITS = 1e-5  # a larger error, beside a product's largest entry, is not single precision's


@cache
def _other_product_is_faster() -> bool:
    """Whether this is a processor of AMD, and torch was built with oneDNN."""
    try:
        about = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:  # another system
        return False
    return "AuthenticAMD" in about and torch.backends.mkldnn.is_available()


def word_scores(layer: nn.Linear, features: Tensor) -> Tensor:
    """`layer(features)`: scores [..., V] of features [..., F].

    Args:
        layer: The output layer.
        features: Any number of rows. With gradients, in another precision than single, or on
            another device than a CPU, this is the layer itself.
    """
    single = features.dtype == torch.float32 == layer.weight.dtype
    single = single and not torch.is_autocast_enabled("cpu")
    plain = torch.is_grad_enabled() or not single or features.device.type != "cpu"
    if plain or not features.numel() or not _other_product_is_faster():
        return layer(features)
    product = torch.ops.mkldnn._linear_pointwise
    return product(features.contiguous(), layer.weight, layer.bias, "none", [], "")


def fastest_product(device: str) -> str:
    """The `matmul_precision` that is fastest here among those that keep single precision.

    "medium" lets torch take oneDNN's product, which on some processors computes in bfloat16. So it
    is taken only on a processor of AMD, and only where a product on this machine shows no larger
    error than single precision has; "highest" everywhere else.

    Args:
        device: Where the run is: "cpu", "cuda", "cuda:N".
    """
    quick = device == "cpu" and _other_product_is_faster() and _error("medium") < DIGITS
    return "medium" if quick else "highest"


@cache
def runs_bfloat16(kind: str) -> bool:
    """Whether recurrent layers run in bfloat16 here; on older processors oneDNN has none.

    Args:
        kind: Of the device: "cpu", "cuda".
    """
    layer, x = nn.LSTM(4, 4).to(kind), torch.zeros(1, 1, 4, device=kind)
    try:
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16):
            layer(x)
    except RuntimeError:
        return False
    return True


@cache
def _error(precision: str) -> float:
    """The largest error of a product of 64 by 256 by 64, beside its largest entry."""
    source = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 256, generator=source) for _ in range(2))
    exact = a.double() @ b.double().T
    with matmul_precision(precision):
        return float((a @ b.T - exact).abs().max() / exact.abs().max())


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Torch's setting of that name, for a while."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
