"""undiffuse: train generative models on your own data, sample them, and trust the numbers.

    import undiffuse as ud

    model = ud.edm("photos/").fit("photos/", budget="10m", out="runs/photos")
    images = model.sample(64, seed=0)

The public names are those of `__init__.pyi`. Each is imported when it is first used, so that
`import undiffuse` costs nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
