"""Word scores without gradients, by the faster of two matrix products in single precision.

On processors of AMD, torch's product for single precision (MKL) runs at half the rate of oneDNN's.
Which one is taken depends on the machine alone, so that a run keeps its bits.
"""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn


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
