"""vaelib: posterior collapse in variational autoencoders, its remedies and its metrics.

>>> import vaelib
>>> corpus = vaelib.data.load("grammar", train_size=100)
>>> len(corpus.train)
100
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelib import claims, data, distributions, metrics, objectives, published, toy
    from vaelib.build import METHODS, TERMS
    from vaelib.config import Config
    from vaelib.errors import VaelibError
    from vaelib.model import VAE, Outputs
    from vaelib.objectives import Term, recipe
    from vaelib.run import Run, run
    from vaelib.store import Store
    from vaelib.studies import Study
    from vaelib.sweep import study

__version__ = "0.1.0"
__all__ = [
    "METHODS",
    "TERMS",
    "VAE",
    "Config",
    "Outputs",
    "Run",
    "Store",
    "Study",
    "Term",
    "VaelibError",
    "claims",
    "data",
    "distributions",
    "metrics",
    "objectives",
    "published",
    "recipe",
    "run",
    "study",
    "toy",
]
_PLACES = {"Config": "config", "VaelibError": "errors", "VAE": "model", "Outputs": "model"}
_PLACES |= {"METHODS": "build", "TERMS": "build", "Term": "objectives", "recipe": "objectives"}
_PLACES |= {"Run": "run", "run": "run", "Store": "store", "Study": "studies", "study": "sweep"}


def _loaded(name: str) -> Any:
    """A public name, its module loaded when it is first asked for: torch takes seconds."""
    module = importlib.import_module(f"vaelib.{_PLACES.get(name, name)}")
    return getattr(module, name) if name in _PLACES else module


class _Package(ModuleType):
    """The package: `vaelib.run` is the function, although a module has that name too."""

    run = property(lambda _: _loaded("run"), lambda _, module: None)

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'vaelib' has no attribute {name!r}")
        return _loaded(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
