from __future__ import annotations


def render_comparison(facts, pictures):
    return ""
