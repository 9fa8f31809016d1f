"""Makes the sample's modules importable, as they are for ``python samples/voice/main.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4] / "samples" / "voice"))
