"""Terms and methods. One file a term; importing this package registers them all."""

import importlib
import pkgutil

from vaelib.objectives.base import METHODS, TERMS, Objective, Recipe, Term, recipe

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from vaelib.objectives.density_gap import density_gap  # noqa: E402

__all__ = ["METHODS", "TERMS", "Objective", "Recipe", "Term", "density_gap", "recipe"]
