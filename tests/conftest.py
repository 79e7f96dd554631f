import os
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# no test may depend on how fast the machine is; where others wait for the outcome, none on luck
settings.register_profile("pvqbounds", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("pvqbounds")
