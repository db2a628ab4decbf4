"""The weights of a finished run as one file: the model's, and what its objective learnt."""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from vaelib.build import Built
from vaelib.errors import VaelibError
from vaelib.store import atomic, check

OBJECTIVE = "objective."  # what the names of an objective's weights begin with


def save_weights(built: Built, path: Path) -> None:
    """Write the weights of model and objective, atomically; what both share is written once.

    Args:
        built: Model and objective, on any device.
        path: A safetensors file.
    """
    model = built.model.state_dict()
    shared = {tensor.data_ptr() for tensor in model.values()}
    own = {k: v for k, v in built.objective.state_dict().items() if v.data_ptr() not in shared}
    every = model | {f"{OBJECTIVE}{name}": value for name, value in own.items()}
    flat = {k: v.clone(memory_format=torch.contiguous_format).cpu() for k, v in every.items()}
    with atomic(path) as file:
        file.write(safetensors.torch.save(flat))


def load_weights(built: Built, path: Path, advice: str) -> Built:
    """Put stored weights into a model and its objective.

    Args:
        built: Both as `build` makes them.
        path: A file that `save_weights` wrote.
        advice: What to do about a damaged one.

    Raises:
        VaelibError: The file is damaged or altered, or of another model.
    """
    check(path, f"delete the file and {advice}")
    try:
        stored = safetensors.torch.load_file(path)
        own = {k.removeprefix(OBJECTIVE): v for k, v in stored.items() if k.startswith(OBJECTIVE)}
        built.model.load_state_dict({k: v for k, v in stored.items() if k not in _named(own)})
        whole: dict[str, Tensor] = built.objective.state_dict()
        built.objective.load_state_dict(whole | own)
    except Exception as error:
        raise VaelibError(
            f"cannot read the weights {path}: {' '.join(str(error).split())}; delete the file and "
            f"{advice}."
        ) from error
    return built


def _named(own: dict[str, Tensor]) -> set[str]:
    return {f"{OBJECTIVE}{name}" for name in own}
