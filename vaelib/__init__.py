"""vaelib: posterior collapse in variational autoencoders, its remedies and its metrics.

>>> import vaelib
>>> corpus = vaelib.data.load("grammar", train_size=100)
>>> len(corpus.train)
100
"""

from vaelib import data, distributions, metrics, objectives
from vaelib.config import Config
from vaelib.errors import VaelibError
from vaelib.model import VAE, Outputs
from vaelib.objectives import METHODS, TERMS, Term, recipe
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
    "data",
    "distributions",
    "metrics",
    "objectives",
    "recipe",
    "run",
    "study",
]
