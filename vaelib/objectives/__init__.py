"""Terms and methods, one file a term; those of other modules too are in `vaelib.METHODS`."""

import importlib
import pkgutil

from vaelib.objectives.base import TERMS, Objective, Recipe, Term, recipe

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from vaelib.objectives.density_gap import density_gap  # noqa: E402

__all__ = ["TERMS", "Objective", "Recipe", "Term", "density_gap", "recipe"]
