"""undiffuse: train generative models on your own data, sample them, and trust the numbers.

    import undiffuse as ud

    model = ud.edm("photos/").fit("photos/", budget="10m", out="runs/photos")
    images = model.sample(64, seed=0)

The public names are those of `__init__.pyi`. Each is imported when it is first used, so that
`import undiffuse` costs nothing.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    find, _, names = _attach()
    return names if name == "__all__" else find(name)


def __dir__() -> list[str]:
    return _attach()[1]()


def _attach():  # noqa: ANN202 - of functions and a list
    """Put what finds the public names in the place of the two above: it is not imported before."""
    import lazy_loader

    from undiffuse.plugged import installed

    find, listed, names = lazy_loader.attach_stub(__name__, __file__)

    def found(name: str) -> object:
        if name in names and installed():  # what packages add to ours is there from now on
            from undiffuse.plugins import load_installed

            load_installed()
        return find(name)

    globals().update(__getattr__=found, __dir__=listed, __all__=names)
    return found, listed, names
