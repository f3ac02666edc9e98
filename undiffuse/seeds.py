"""One seed from many integers, well spread: neighbouring runs, steps and rows share nothing.

SplitMix64's finalizer (Steele et al. 2014), absorbing one integer at a time.
"""

_MASK = (1 << 64) - 1


def mix(*keys: int) -> int:
    """Return a seed in [0, 2^63) made of integers and their order.

    >>> mix(0, 1) != mix(1, 0) and mix(0, 1) == mix(0, 1)
    True
    """
    state = 0
    for key in keys:
        z = ((state ^ (key & _MASK)) + 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        state = z ^ (z >> 31)
    return state >> 1
