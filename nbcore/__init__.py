"""NBCORE: learned adaptive time steps for gravitational N-body runs.

The public names are loaded when they are first used, so that `import nbcore` is quick.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
