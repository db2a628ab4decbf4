"""What several tests of the data layer share."""

from collections.abc import Callable
from pathlib import Path

FolderWriter = Callable[..., Path]
CONTENT = b"".join(b"line %d of a small file\n" % i for i in range(20_000))
