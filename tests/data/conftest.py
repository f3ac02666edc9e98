"""What tests of pictures share."""

from __future__ import annotations

import pytest

from undiffuse.data.pictures import figure_to_image


@pytest.fixture
def drawn_by(monkeypatch):
    """`drawn_by(module)`: the figures that the module draws from now on."""

    def of(module):
        kept = []

        def keep(figure):
            kept.append(figure)
            return figure_to_image(figure)

        monkeypatch.setattr(module, "figure_to_image", keep)
        return kept

    return of
