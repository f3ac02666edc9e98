"""Rules of tables: what is known to hold is found, put back and scored; nothing else is found."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from examples import own_law

from undiffuse import parts
from undiffuse.data import complete, conform, load, restore
from undiffuse.data.tables.modelled import MODELLED
from undiffuse.data.tables.rules import RULES, Determined, Lookup, Near
from undiffuse.data.tables.seen import FEWEST
from undiffuse.data.tables.stated import SIGNS
from undiffuse.data.tables.transform import TableTransform
from undiffuse.errors import InputError

ROWS = 900
N = 810  # of them for training


def amounts(rng, n):
    a, b = rng.integers(0, 500, n), np.round(rng.gamma(2, 30, n), 2)
    return {"a": a, "b": b, "total": np.round(a + b, 2), "net": np.round(2 * a - b, 2)}


def product(rng, n):
    quantity, price = rng.integers(1, 20, n), rng.integers(100, 9000, n) / 100
    return {"quantity": quantity, "price": price, "paid": np.round(quantity * price, 2)}


def degrees(rng, n):
    celsius = np.round(rng.normal(10, 8, n), 1)
    return {"celsius": celsius, "fahrenheit": np.round(celsius * 9 / 5 + 32, 2)}


def taxed(rng, n):
    """Of about one price in a hundred the price with its tax is halfway between two cents."""
    net = np.round(rng.gamma(2, 30, n), 2)
    gross = np.floor(119 * np.rint(100 * net) / 100 + 0.5) / 100
    return {"net": net, "tax": np.round(gross - net, 2), "gross": gross, "word": rng.choice(3, n)}


def reduced(rng, n):
    price, part = rng.integers(100, 9000, n) / 100, rng.choice([0, 0.05, 0.1, 0.25], n)
    price[rng.random(n) < 0.1] = np.nan
    return {"price": price, "part": part, "paid": np.round(price * (1 - part), 2)}


def speeds(rng, n):
    km, hours = np.round(rng.gamma(2, 100, n), 1), np.round(rng.gamma(2, 1, n) + 0.1, 2)
    return {"km": km, "hours": hours, "speed": np.round(km / hours, 1)}


def floats(rng, n):
    x, y = rng.normal(size=(2, n))
    return {"x": x, "y": y, "less": x - 3 * y}


def codes(rng, n):
    code = rng.integers(10_000, 99_999, n)
    return {"code": code, "region": code // 1000, "last": code % 100}


def clock(rng, n):
    time = rng.integers(0, 24, n) * 100 + rng.integers(0, 12, n) * 5
    late = rng.integers(-10, 200, n)
    minutes = (time // 100 * 60 + time % 100 + late) % 1440
    arrival = minutes // 60 * 100 + minutes % 60
    return {
        "time": time,
        "hour": time // 100,
        "minute": time % 100,
        "late": late,
        "arrival": arrival,
    }


def dates(rng, n):
    day = pd.Timestamp("2019-03-01") + pd.to_timedelta(rng.integers(0, 1500, n), "D")
    parts = {name: getattr(day, name) for name in ("year", "month", "day")}
    return {"date": day.date, **parts, "weekday": day.day_name(), "w": day.day_of_week + 1}


def zones(rng, n):
    """UTC beside the parts of local time, two hours ahead in summer and one in winter."""
    when = pd.Timestamp("2021-01-01", tz="Europe/Berlin") + pd.to_timedelta(
        rng.integers(0, 364 * 24, n), "h"
    )
    local = {name: getattr(when, name) for name in ("month", "day", "hour")}
    return {"utc": when.tz_convert("UTC"), **local, "x": rng.normal(size=len(when))}


def seasons(rng, n):
    """The same over four years, by minutes, with most rows in the days when the zone changes."""
    days = pd.to_datetime([f"{year}-{day}" for year in range(2019, 2023)
                           for day in ("03-29", "10-29")]).tz_localize("UTC")  # fmt: skip
    some = pd.DatetimeIndex(days[rng.integers(0, len(days), n)]) - pd.Timedelta(2, "D")
    when = (some + pd.to_timedelta(rng.integers(0, 5 * 1440, n), "min")).tz_convert("Europe/Berlin")
    parts = {name: getattr(when, name) for name in ("year", "month", "day", "hour", "minute")}
    return {"utc": when.tz_convert("UTC"), **parts, "x": rng.normal(size=n)}


def places(rng, n):
    city = rng.integers(0, 12, n)
    street = city * 4 + rng.integers(0, 4, n)
    names = np.array([f"{name}town" for name in "abcdefghijkl"])
    return {"zip": 1000 + 7 * street, "city": names[city], "rain": (city * 5) % 7 * 0.5}


def routes(rng, n):
    origin, step = rng.integers(0, 3, n), rng.integers(1, 9, n)
    dest = (origin * 5 + step * step) % 17
    distance = 100 + (origin * 91 + dest * 57) % 1000
    return {
        "origin": np.array(list("EJL"))[origin],
        "dest": np.array(list("abcdefghijklmnopq"))[dest],
        "distance": distance,
        "air": distance / 8 + rng.normal(0, 3, n),
    }


def orders(rng, n):
    low = rng.normal(0, 5, n)
    start = rng.integers(0, 400, n)
    return {
        "low": low,
        "high": low + rng.gamma(2, 2, n),
        "start": start,
        "end": start + rng.geometric(0.1, n) - 1,
    }


def gaps(rng, n):
    """What is missing leaves what it determines missing, or free."""
    a, b = rng.integers(0, 300, n).astype(float), rng.integers(0, 300, n).astype(float)
    a[rng.random(n) < 0.1] = np.nan
    diverted = np.isnan(a) & (rng.random(n) < 0.5)
    return {"a": a, "b": b, "sum": np.where(diverted, rng.integers(0, 600, n), a + b)}


def flown(rng, n):
    """What is not known of flights that were cancelled, and of some that were diverted."""
    cancelled = rng.random(n) < 0.15
    lost = cancelled | (rng.random(n) < 0.1)
    planned, late = rng.integers(0, 900, n), rng.integers(-9, 90, n) * 1.0
    return {
        "planned": planned,
        "gate": np.where(cancelled, None, rng.choice(["A", "B", "C"], n)),
        "late": np.where(cancelled, np.nan, late),
        "left": np.where(cancelled, np.nan, planned + late),
        "air": np.where(lost, np.nan, rng.gamma(9, 20, n)),
        "belt": np.where(lost, np.nan, rng.integers(1, 6, n)),
        "note": np.where(rng.random(n) < 0.3, np.nan, rng.integers(0, 9, n)),
    }


def missing_together(frame):
    gap = frame.isna()
    return (
        (gap.gate == gap.late)
        & (gap.left == gap.late)
        & (gap.air == gap.belt)
        & (gap.air | ~gap.late)
        & same(frame.left, frame.planned + frame.late)
    )


def network(rng, n):
    """Lines that serve some routes each; fares depend on all three a little."""
    lines = rng.integers(0, 30, (9, 6, 2)) % [[[4, 30]]]
    line, route = rng.integers(0, 9, n), np.minimum(rng.geometric(0.4, n), 6) - 1
    start, end = lines[line, route].T
    word = rng.choice(list("pqrs"), n)
    x = line + start + end / 9 + rng.normal(size=n)
    names = {"line": np.array([f"L{i}" for i in line]), "start": np.array(list("NESW"))[start]}
    return {**names, "end": np.array([f"e{i}" for i in end]), "word": word, "x": x}


def same(left, right):
    left, right = np.asarray(left, float), np.asarray(right, float)
    return np.isclose(left, right, rtol=1e-6, atol=1e-6) | np.isnan(left) | np.isnan(right)


def half(numbers, exact, step):
    """Whether numbers are others rounded to a step, halves up or down."""
    return np.abs(numbers - exact) <= step / 2 + 1e-9


def minutes(clock):
    return clock // 100 * 60 + clock % 100


def weekdays(frame):
    date = pd.to_datetime(frame["date"])
    return (
        (date.dt.year == frame["year"])
        & (date.dt.month == frame["month"])
        & (date.dt.day == frame["day"])
        & (date.dt.day_name() == frame["weekday"])
        & (date.dt.day_of_week + 1 == frame["w"])
    )


def local_times(frame):
    local = pd.to_datetime(frame["utc"], utc=True).dt.tz_convert("Europe/Berlin").dt
    return (
        (local.month == frame["month"])
        & (local.day == frame["day"])
        & (local.hour == frame["hour"])
    )


def local_minutes(frame):
    local = pd.to_datetime(frame["utc"], utc=True).dt.tz_convert("Europe/Berlin").dt
    parts = ["year", "month", "day", "hour", "minute"]
    told = pd.to_datetime(frame[parts], errors="coerce")
    never = told.dt.tz_localize("Europe/Berlin", ambiguous=True, nonexistent="NaT").isna()
    kept = local_times(frame) & (local.year == frame["year"]) & (local.minute == frame["minute"])
    return kept | told.notna() & never  # an hour of spring that clocks skip


def looked_up(frame, real, of, to):
    return frame.merge(real.groupby(of)[to].first().reset_index(), on=of, how="left")[to + "_y"]


def known_pairs(frame, real, *names):
    return pd.MultiIndex.from_frame(frame[[*names]]).isin(pd.MultiIndex.from_frame(real[[*names]]))


KEPT = {
    amounts: (2, lambda f, _: same(f.total, f.a + f.b) & same(f.net, 2 * f.a - f.b)),
    product: (1, lambda f, _: same(f.paid, f.quantity * f.price)),
    degrees: (1, lambda f, _: same(f.fahrenheit, f.celsius * 9 / 5 + 32)),
    taxed: (2, lambda f, _: same(f.gross, f.net + f.tax) & half(f.gross, 1.19 * f.net, 0.01)),
    reduced: (1, lambda f, _: half(f.paid, f.price * (1 - f.part), 0.01) | f.price.isna()),
    speeds: (1, lambda f, _: half(f.speed, f.km / f.hours, 0.1)),
    floats: (1, lambda f, _: same(f.less, f.x - 3 * f.y)),
    codes: (2, lambda f, _: (f.region == f.code // 1000) & (f["last"] == f.code % 100)),
    clock: (
        2,
        lambda f, _: (
            (f.hour == f.time // 100)
            & (f.minute == f.time % 100)
            & ((minutes(f.time) + f.late - minutes(f.arrival)) % 1440 == 0)
        ),
    ),
    dates: (5, lambda f, _: weekdays(f)),
    zones: (1, lambda f, _: local_times(f)),
    seasons: (1, lambda f, _: local_minutes(f)),
    places: (
        2,
        lambda f, real: known_pairs(f, real, "zip", "city") & known_pairs(f, real, "city", "rain"),
    ),
    routes: (1, lambda f, real: known_pairs(f, real, "origin", "dest", "distance")),
    orders: (0, lambda f, _: (f.low <= f.high) & (f.start <= f.end)),
    gaps: (1, lambda f, _: same(f["sum"], f.a + f.b)),
    flown: (1, lambda f, _: missing_together(f)),
    network: (0, lambda f, real: known_pairs(f, real, "line", "start", "end")),
}
"""Table -> how many of its columns others determine, and which rows of a frame keep its rules."""


def frame(made, seed=0, n=ROWS):
    return pd.DataFrame(made(np.random.default_rng(seed), n))


def read(made, **reading):
    return load(frame(made), held_out=0.1, **reading)


def determines(rule):
    return isinstance(rule, Determined)


def drawn(data, n=400, seed=0):
    """Rows that a model could draw: those of normal coordinates, and of extreme ones."""
    x = torch.randn(n, *data.shape, generator=torch.Generator().manual_seed(seed))
    x[: n // 4] *= 3
    return data.form.present(data.transform.decode(x))


def known(data, rows):
    """Their log-likelihood if no column depended on another, in the middle of each step."""
    return _alone(data.transform, rows)


def stored(data):
    """The training rows: of held-out ones some values may be unseen."""
    return data.sample_batch(len(data))["row"].numpy()


@pytest.mark.parametrize("made", KEPT, ids=lambda made: made.__name__)
def test_what_holds_in_every_row_holds_in_every_drawn_row(made):
    determined, keeps = KEPT[made]
    data = read(made)
    real = frame(made)
    assert np.all(keeps(real, real))  # the law is one of this table
    rows = drawn(data)
    assert np.all(keeps(rows, real))
    assert sum(map(determines, data.transform.rules)) == determined
    without = drawn(read(made, rules=False))
    assert not np.all(keeps(without, real))  # by itself it would not hold


@pytest.mark.parametrize("made", KEPT, ids=lambda made: made.__name__)
def test_rows_come_back_and_a_run_records_its_rules(made):
    data = read(made)
    rows = stored(data)
    x, _ = data.transform.encode(torch.as_tensor(rows), torch.zeros_like)
    transform, _, _ = restore(json.loads(json.dumps(data.config(), allow_nan=False)))
    for one in (data.transform, transform):
        back = one.decode(x)
        np.testing.assert_allclose(back, rows, rtol=1e-4, atol=1e-4)
    assert torch.equal(transform.encode(torch.as_tensor(rows), torch.zeros_like)[0], x)
    assert not conform(data.train[:], data.config()).readable.problems


# --- the registries


def law_a_rule_is_kept(rule, data):
    """Training rows keep it and come back; whatever is drawn keeps it."""
    rules = [rule if one.target == rule.target else one for one in data.transform.rules]
    transform = TableTransform(columns=data.transform.columns, rules=rules)
    rows = stored(data)
    assert not rule.broken(rows).any()
    x, _ = transform.encode(torch.as_tensor(rows), torch.zeros_like)
    np.testing.assert_allclose(transform.decode(x), rows, rtol=1e-4, atol=1e-4)
    z = torch.randn(300, *transform.shape, generator=torch.Generator().manual_seed(0))
    assert not rule.broken(transform.decode(z)).any()


RECORDED = {**RULES, **MODELLED}
TABLES = {"formula": amounts, "lookup": places, "calendar": zones, "ordered": orders}
TABLES |= {"within": routes, "absent": flown, "near": routes}


@pytest.mark.parametrize("sort", RULES)
def test_every_sort_of_rule_is_kept_after_it_was_recorded(sort):
    data = read(TABLES[sort])
    rule = next(rule for rule in data.transform.rules if type(rule) is RULES[sort])
    tree = json.loads(json.dumps(parts.describe(rule, RECORDED), allow_nan=False))
    law_a_rule_is_kept(parts.rebuild(tree, RECORDED), data)


def test_a_wrong_sort_of_rule_is_caught(monkeypatch):
    class Forgets(Lookup):
        def predict(self, row):
            return np.roll(super().predict(row), 1)

    monkeypatch.setitem(RECORDED, "lookup", Forgets)
    data = read(places)
    tree = parts.describe(data.transform.rules[0], {**RULES, **MODELLED})
    with pytest.raises(AssertionError):
        law_a_rule_is_kept(parts.rebuild(tree, RECORDED), data)


def law_a_sign_compares(sign):
    table = pd.DataFrame({"a": [1, 2, 3] * 24, "b": np.repeat([1, 2, 3, 1], 18)})
    for rule in (f"a {sign} b", f"b {sign} 2", f"2 {sign} b"):
        kept = [eval(rule, {"a": a, "b": b}) for a, b in zip(table.a, table.b)]
        data = load(table[kept], rule=rule)
        broken = conform(table, data.config()).readable.problems
        breaks = {row for row, told in broken.items() if "stated" in told.reason}
        assert breaks == {row for row, one in enumerate(kept) if not one}
        rows = drawn(data, 99)[["a", "b"]].to_numpy()
        assert all(eval(rule, {"a": a, "b": b}) for a, b in rows)


@pytest.mark.parametrize("sign", SIGNS)
def test_every_sign_compares_as_it_is_written(sign):
    law_a_sign_compares(sign)


def test_a_wrong_sign_is_caught(monkeypatch):
    monkeypatch.setitem(SIGNS, "<=", np.less)
    with pytest.raises((AssertionError, InputError)):
        law_a_sign_compares("<=")


# --- nothing else is found


def unrelated(rng, n):
    city = 1 / np.arange(1, 40)
    return {
        "word": rng.choice(list("abc"), n),
        "city": rng.choice([f"c{i}" for i in range(39)], n, p=city / city.sum()),
        "count": rng.poisson(3, n),
        "flag": rng.random(n) < 0.02,
        "x": rng.normal(size=n),
        "price": np.round(rng.gamma(2, 20, n), 2),
        "year": rng.integers(1990, 2020, n),
        "gap": np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 9, n)),
    }


@pytest.mark.parametrize("n", [40, 300, 1000])
def test_nothing_is_found_where_columns_are_independent(n):
    """None in 12 tables of each size: by accident at most one in e**20 for each candidate."""
    for seed in range(12):
        assert load(frame(unrelated, seed, n)).transform.rules == ()


def test_a_column_of_few_values_far_apart_keeps_to_them_instead_of_to_an_order():
    rng = np.random.default_rng(0)
    age, years = (rng.choice(own, ROWS) for own in ([17.5, 22.0, 42.0], [0.5, 2.5, 23.0]))
    table = pd.DataFrame({"age": age, "years": np.where(years > age, 0.5, years)})
    data = load(table.assign(x=rng.normal(size=ROWS)))
    assert data.transform.rules == ()
    assert set(drawn(data)["age"]) == {17.5, 22.0, 42.0}
    months = pd.DataFrame(np.sort(rng.integers(1, 13, (ROWS, 2)), 1), columns=["from", "to"])
    assert [rule.name for rule in load(months).transform.rules] == ["to"]


def test_categories_that_often_occur_in_new_combinations_are_not_kept_to_old_ones():
    """Of 40 x 60 the training rows show too few, though none but half of them can be."""
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 40, 1500), rng.integers(0, 30, 1500)
    two = 2 * two + one % 2
    table = pd.DataFrame({"one": [f"a{i}" for i in one], "two": [f"b{i}" for i in two]})
    assert load(table).transform.rules == ()
    often = load(pd.concat([table.head(400)] * 6).assign(x=rng.normal(size=2400))).transform.rules
    assert [type(rule) for rule in often] == [RULES["within"]]
    one, two = rng.integers(0, 3, 4000), rng.integers(0, 10, 4000)  # one of 30 never occurs
    most = pd.DataFrame({"one": [f"a{i}" for i in one], "two": [f"b{i}" for i in two]})
    assert load(most[one + two > 0]).transform.rules == ()


def test_nearly_determined_is_not_determined():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 50, (2, ROWS))
    total = a + b + (rng.random(ROWS) < 0.02)
    word = np.where(rng.random(ROWS) < 0.96, a % 5, rng.integers(0, 5, ROWS))
    table = pd.DataFrame({"a": a, "b": b, "total": total, "word": word})
    assert not any(map(determines, load(table).transform.rules))


@pytest.mark.parametrize("columns", [["word", "city", "x"], ["word", "city", "x", "gap"]])
def test_rows_that_are_repeated_test_no_rule(columns):
    """Those with gaps neither; nor do numbers recur that these rows hold."""
    one = frame(unrelated, 0, 4 * FEWEST // 5)[columns]
    if "gap" in one:
        one = one.assign(rare=np.where(one.index < 3, one.index, np.nan))
    data = load(pd.concat([one] * 20))
    assert data.transform.rules == ()
    told = {fact["name"]: fact["modelled as"] for fact in data.describe()["columns"]}
    assert told["x"] == "a continuous number"


def test_samples_of_numbers_that_recur_on_no_grid_are_numbers_of_the_data():
    """As speeds of wind of whole knots in another unit; a gust is never below its wind."""
    rng = np.random.default_rng(0)
    wind = math.pi / 100 * np.minimum(rng.geometric(0.1, ROWS), 30)
    gust = np.where(rng.random(ROWS) < 0.3, np.nan, wind * rng.choice([1, 4 / 3], ROWS))
    table = pd.DataFrame({"wind": wind, "gust": gust, "x": rng.normal(size=ROWS)})
    rows = drawn(load(table))
    for name in ("wind", "gust"):
        assert set(rows[name].dropna()) <= set(table[name])
        assert rows[name].nunique() > 20


@pytest.mark.parametrize("made", [amounts, clock, dates, places, product])
def test_a_kept_dependency_adds_its_remaining_mass_and_a_breach_the_unseen(made):
    """log n/(n + 1) for each; log 1/(n + 1) and the probability of the value alone, if broken."""
    data = read(made)
    rules = list(filter(determines, data.transform.rules))
    rows = stored(data)[:50]
    bare = TableTransform(
        columns=[
            column
            for i, column in enumerate(data.transform.columns)
            if i not in {rule.target for rule in rules}
        ]
    )
    left = [i for i in range(rows.shape[1]) if i not in {rule.target for rule in rules}]
    if len(rules) == len(data.transform.rules):
        kept = known(data, rows) - _alone(bare, rows[:, left])
        np.testing.assert_allclose(kept, len(rules) * math.log(N / (N + 1)), atol=1e-9)
    for rule in rules:
        if any(rule.target in other.sources for other in rules):
            continue
        wrong = rows.copy()
        wrong[:, rule.target] = stored(data)[60:110, rule.target]
        broken = rule.broken(wrong)
        alone = _alone(
            TableTransform(columns=[data.transform.columns[rule.target]]),
            wrong[:, [rule.target]],
        )
        change = known(data, wrong) - known(data, rows)
        assert broken.any()
        np.testing.assert_allclose(change[broken], (alone - math.log(N))[broken], atol=1e-9)


def _alone(transform, rows):
    x, correction = transform.encode(torch.as_tensor(rows), torch.zeros_like)
    return correction + own_law(transform, x)


def test_probabilities_of_a_table_with_a_lookup_sum_to_one():
    """Over all rows of the known values; what is unseen has the rest."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(routes(rng, 3000)).drop(columns="air")
    data = load(table, held_out=100)
    columns = data.transform.columns
    values = [column.values for column in columns]
    rows = np.array([[a, b, c] for a in values[0] for b in values[1] for c in values[2]])
    shares = np.exp(known(data, rows).numpy())
    seen = {tuple(row) for row in stored(data).tolist()}
    is_seen = np.array([tuple(row) in seen for row in rows.tolist()])
    counts = np.array([np.sum(np.all(stored(data) == row, 1)) for row in rows[is_seen]])
    assert shares.sum() == pytest.approx(1, abs=3 / 1000)
    np.testing.assert_allclose(shares[is_seen], counts / counts.sum(), rtol=0.35, atol=1e-3)
    assert 0 < shares[~is_seen].sum() < 30 / 2900


@pytest.mark.parametrize("also", [0.0, 0.1])
def test_probabilities_of_a_table_with_gaps_together_sum_to_one(also):
    """Of all values and gaps; those that the rule forbids have the share of the unseen."""
    rng = np.random.default_rng(0)
    one, two = rng.choice(3, 3000) * 1.0, rng.choice(2, 3000) * 1.0
    one[rng.random(3000) < 0.2] = np.nan
    two[np.isnan(one) | (rng.random(3000) < also)] = np.nan
    data = load(pd.DataFrame({"one": one, "two": two}), held_out=300)
    (rule,) = (rule for rule in data.transform.rules if rule.name == "two")
    assert rule.phrase == 'is missing where "one" is' + ", and nowhere else" * (not also)
    transform = TableTransform(columns=data.transform.columns[:2], rules=[rule])
    rows = np.array([[a, b] for a in (0, 1, 2, np.nan) for b in (0, 1, np.nan)])
    shares = np.exp(_alone(transform, rows).numpy())
    train = stored(data)[:, :2]
    counts = np.array(
        [np.sum(np.all((train == r) | np.isnan(train) & np.isnan(r), 1)) for r in rows]
    )
    assert shares.sum() == pytest.approx(1, abs=2e-3)
    np.testing.assert_allclose(shares[counts > 0], counts[counts > 0] / 2700, rtol=0.2)
    broken = rule.broken(rows)
    assert broken.sum() == (2 if also else 5)
    assert (counts[broken] == 0).all()
    n, q = np.isnan(train[:, 0]).sum(), [np.mean(train[:, 1] == b) for b in (0, 1)]
    gone = np.isnan(rows[:, 0]) & broken
    np.testing.assert_allclose(shares[gone], n / 2700 / (n + 1) * np.array(q), rtol=0.01)
    np.testing.assert_allclose(shares[broken & ~gone].sum(), 0 if also else 1 / 2700, rtol=0.3)


@pytest.mark.parametrize("way", [0, 1], ids=["down", "up"])
def test_what_is_halfway_is_rounded_as_in_the_data(way):
    """Of y = round(x/2) of whole x, half of the rows are halfway; the other way has 1/(n + 1)."""
    x = np.random.default_rng(0).integers(0, 4000, 900)
    x[::100] = 0  # then codes are the numbers
    data = load(pd.DataFrame({"x": x, "y": (x + way) // 2}), held_out=0.1)
    (rule,) = (rule for rule in data.transform.rules if rule.name == "y")
    assert rule.phrase == 'follows from "x" (0.5 × x, rounded)'
    rows = np.array([[i, k] for i in range(60) for k in (i // 2, (i + 1) // 2)], float)
    assert not rule.broken(rows).any()
    shares = np.exp(known(data, rows).numpy()).reshape(60, 2)
    n = np.sum(stored(data)[:, 0] % 2)
    np.testing.assert_allclose(shares[1::2, way] / shares[1::2, 1 - way], n, rtol=1e-9)
    rows[:, 1] += 2
    assert rule.broken(rows).all()
    drawn = data.transform.decode(torch.randn(500, *data.shape))
    assert (drawn[:, 1] == (drawn[:, 0] + way) // 2).all()


def test_a_rounded_formula_that_can_be_turned_round_is_restored_from_what_any_value_obeys():
    """net = round(gross/1.19) holds, too, but most values of gross belong to no net."""
    data = read(taxed)
    assert {rule.name for rule in data.transform.rules} == {"gross", "tax"}
    net = {rule.name: rule.of for rule in data.transform.rules}
    assert net in (
        {"gross": ["net"], "tax": ["gross", "net"]},
        {"tax": ["net"], "gross": ["net", "tax"]},
    )


@pytest.mark.filterwarnings("error")
def test_columns_that_are_hardly_ever_there_are_no_rounded_formulas():
    """Some of them are there in none of the rows in which formulas are sought."""
    rng, rare = np.random.default_rng(0), np.full((40, 900), np.nan)
    for column in rare:
        column[rng.choice(900, 2, replace=False)] = 1.5, 2.5
    columns = {f"rare {i}": column for i, column in enumerate(rare)}
    data = load(pd.DataFrame({"x": np.arange(900) % 97, **columns}), held_out=0.1)
    assert not [rule for rule in data.transform.rules if rule.phrase.endswith("rounded)")]


def test_gaps_that_are_independent_or_rare_are_not_found_together():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        table = pd.DataFrame(rng.normal(size=(600, 6)), columns=list("abcdef"))
        for name, share in zip(table, (0.02, 0.1, 0.5, 0.9, 0.97)):
            table.loc[rng.random(600) < share, name] = np.nan
        table.loc[:5, ["a", "c"]] = np.nan
        assert load(table).transform.rules == ()


def test_a_difference_has_the_density_of_the_larger_given_the_smaller():
    """Over all of its values, whole or not, that integrates to one."""
    data = read(orders)
    names = [column.name for column in data.transform.columns]
    row = stored(data)[0]
    for name, spread in {
        "high": np.linspace(-1, 200, 40_001),
        "end": np.arange(-2.0, 60.0),
    }.items():
        below = "low" if name == "high" else "start"
        rows = np.repeat(row[None], len(spread), 0)
        column, other = (data.form.columns[names.index(one)] for one in (name, below))
        base = row[names.index(below)]
        if name == "end":
            base = base * other.unit + other.offset - column.offset
        rows[:, names.index(name)] = base + spread
        nats = known(data, rows)
        rule = next(one for one in data.transform.rules if one.name == name)
        of_gaps = TableTransform(columns=[rule.gap])
        most = int(nats.argmax())
        others = nats[most] - _alone(of_gaps, spread[[most], None])
        expected = rule.gap.expects(spread)  # what is unseen has a share for all of it
        total = np.exp((nats - others).numpy())[expected].sum() * (spread[1] - spread[0])
        assert total == pytest.approx(1, abs=0.03)


def test_a_number_that_a_determined_one_nearly_tells_has_the_density_of_the_difference():
    """air = distance/8 + a normal of deviation 3, where the route determines the distance."""
    data = read(routes)
    rule = next(one for one in data.transform.rules if isinstance(one, Near))
    _, factor = rule.constants
    assert (rule.name, rule.of) == ("air", ["distance"])
    assert factor == pytest.approx(1 / 8, abs=0.002)
    rows = stored(data)
    apart = rows[:, rule.target] - rule.base(rows)
    assert apart.std() == pytest.approx(3, rel=0.1)
    spread = np.linspace(-40, 40, 8001)
    of_gaps = TableTransform(columns=[rule.gap])
    for row in rows[:3]:
        some = np.repeat(row[None], len(spread), 0)
        some[:, rule.target] = rule.base(row[None]) + spread
        nats = known(data, some)
        total = np.exp((nats - (nats[4000] - _alone(of_gaps, spread[[4000], None]))).numpy()).sum()
        assert total * (spread[1] - spread[0]) == pytest.approx(1, abs=0.03)
    assert not any(line["column"] == "air" for line in data.describe()["rules"])
    told = {fact["name"]: fact["modelled as"] for fact in data.describe()["columns"]}
    assert told["air"].startswith("is modelled by its difference from 0.12")


def test_a_number_that_is_told_too_little_or_by_one_of_the_base_is_modelled_alone():
    far = frame(routes).assign(air=lambda f: f.air + np.random.default_rng(1).normal(0, 30, ROWS))
    for table in (far, frame(routes).drop(columns="dest")):
        assert not any(isinstance(rule, Near) for rule in load(table).transform.rules)


def test_a_breach_is_named_and_costs_as_the_unseen_does():
    data = read(places)
    odd = frame(places).head(4)
    odd.loc[1, "city"] = "atown" if odd.loc[1, "city"] != "atown" else "btown"
    rows = conform(odd, data.config())
    assert list(rows.readable.problems) == [1]
    problem = rows.readable.problems[1]
    assert problem.nats is None
    assert 'column "city"' in problem.reason
    assert 'follows from "zip" (lookup of 48 values)' in problem.reason
    nats = known(data, rows.readable.take(np.arange(4))[0])
    assert nats[1] < nats[[0, 2, 3]].min() - math.log(N) + 4


def test_what_the_rules_are_is_said():
    data = read(routes)
    told = {line["column"]: line["rule"] for line in data.describe()["rules"]}
    assert told["distance"].startswith('follows from "origin" and "dest" (lookup of ')
    assert told["dest"].startswith('is one of the values seen beside "origin"')
    assert any("--data.rules false" in note for note in data.notes)
    assert "rules" not in read(routes, rules=False).describe()
    assert read(routes, rules=False).config()["reading"] == {"rules": False}


# --- stated rules


def test_a_stated_rule_is_kept_and_its_breach_is_impossible():
    table = frame(orders).head(60)  # too few rows to find any
    data = load(table, rule=["high > low", "start <= end", "0 <= start"])
    rows = drawn(data)
    assert (rows.high > rows.low).all()
    assert (rows.start <= rows.end).all()
    odd = table.head(3).copy()
    odd.loc[1, "end"] = odd.loc[1, "start"] - 1
    problems = conform(odd, data.config()).readable.problems
    assert list(problems) == [1]
    assert problems[1].nats == -math.inf
    assert problems[1].reason == 'breaks the stated rule "start <= end"'
    with pytest.raises(InputError, match='rows break the stated rule "50 > start"'):
        load(table, rule="50 > start")
    cells = {"start": [table.start.max()], "end": [table.end.min()]}
    assert complete(pd.DataFrame({**cells, "end": [None]}), data.config()).known.sum() == 1
    with pytest.raises(InputError, match='row 1 breaks the stated rule "start <= end"; correct it'):
        complete(pd.DataFrame(cells), data.config())


def test_a_stated_rule_holds_across_grids_and_where_a_side_is_missing():
    rng = np.random.default_rng(0)
    paid = rng.integers(1, 9, 80) * 5.0
    cost = np.round(paid * rng.uniform(0.1, 0.99, 80), 2)
    paid[:9], cost[20:29] = np.nan, np.nan
    table = pd.DataFrame({"paid": paid, "cost": cost})
    for rule in ("paid > cost", "cost < paid"):
        rows = drawn(load(table, rule=rule))
        kept = (rows.paid > rows.cost) | rows.paid.isna() | rows.cost.isna()
        assert kept.all()
        assert rows.paid.isna().any()
        assert rows.cost.isna().any()
        assert set(rows.paid.dropna() % 5) == {0}


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (product, "paid >= 0"),
        (product, "paid <= 1703"),
        (amounts, "net >= -195"),
        (codes, "last < 99"),
    ],
)
def test_a_column_that_is_compared_with_a_number_may_follow_from_others(made, rule):
    """A rule that its formula keeps anyway leaves it as it is; else it is modelled, and kept."""
    real = frame(made)
    real = real[real.eval(rule)]
    data = load(real, rule=rule, held_out=0.1)
    determined, keeps = KEPT[made]
    rows = drawn(data)
    assert rows.eval(rule).all()
    if rule == "paid >= 0":
        assert sum(map(determines, data.transform.rules)) == determined
        assert np.all(keeps(rows, real))


def test_days_and_times_are_compared_with_each_other_and_with_dates(tmp_path):
    """A date is its midnight; what is drawn keeps the rule, across units and however written."""
    rng = np.random.default_rng(0)
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90, 200), "D")
    end = day + pd.to_timedelta(rng.integers(1, 9000, 200), "min")
    table = pd.DataFrame({"start": day.strftime("%d.%m.%Y"), "end": end.strftime("%Y-%m-%d %H:%M")})
    table.to_csv(tmp_path / "t.csv", index=False)
    written = pd.DataFrame({"start": day.strftime("%Y%m%d").astype(int), "end": end})
    rules = ["end > start", "start >= 2024-01-01", "2024-04-07T00:00 > end"]
    for source in (tmp_path / "t.csv", pd.DataFrame({"start": day.date, "end": end}), written):
        data = load(source, rule=rules)
        rows = data.form.table(data.transform.decode(torch.randn(300, *data.shape))).to_pandas()
        assert (pd.to_datetime(rows.end) > pd.to_datetime(rows.start.astype(str))).all()
        assert rows.start.nunique() > 20
        with pytest.raises(InputError, match='rows break the stated rule "start < 2024-03-01"'):
            load(source, rule="start < 2024-03-01")
    noon = written.assign(start=20240301)
    noon.loc[:4, "start"] = 20240229
    load(noon, rule=["start <= 2024-03-01T12:00", "start < 2024-03-01T12:00"])
    with pytest.raises(InputError, match="195 rows break the stated rule"):
        load(noon, rule="start < 2024-03-01")


def test_a_day_or_a_time_is_compared_with_a_number_written_as_they_are():
    rng = np.random.default_rng(0)
    day = pd.Timestamp("2023-12-01") + pd.to_timedelta(rng.integers(0, 90, 200), "D")
    time = rng.integers(6, 24, 200) * 100 + rng.integers(0, 60, 200)
    table = pd.DataFrame({"day": day.strftime("%Y%m%d").astype(int), "time": time})
    data = load(table, rule=["day >= 20231201", "600 <= time"])
    odd = table.head(3).copy()
    odd.loc[0, "day"], odd.loc[1, "time"] = 20231130, 559
    problems = conform(odd, data.config()).readable.problems
    assert [problems[i].nats for i in (0, 1)] == [-math.inf] * 2
    assert 2 not in problems


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("end > start", "rows break the stated rule"),
        ("end", "is not a comparison"),
        ("end == start", "is not a comparison"),
        ("ende >= start", 'there is no column "ende"'),
        ("start >= zero", 'there is no column "zero"'),
        ("start <= inf", 'there is no column "inf"'),
        ("word >= 3", "only numbers, days and times can be compared"),
        ("when >= 3", "not of one kind"),
        ("when >= start", "not of one kind"),
        ("start >= 2024-01-01", "not of one kind"),
        ("when >= 2024-13-01", 'there is no column "2024-13-01"'),
        ("start >= start", '"start >= start" names one column twice'),
        ("start => end", "is not a comparison"),
        ("start <> end", "is not a comparison"),
        ("", '--data.rule "" is not a comparison'),
    ],
)
def test_rules_that_cannot_be_are_refused_in_one_sentence(rule, said):
    table = frame(orders).assign(word="a", when=pd.Timestamp("2024-01-01"))
    table.loc[:400, ["word", "when"]] = ["b", pd.Timestamp("2024-02-01")]
    with pytest.raises(InputError) as told:
        load(table, rule=rule)
    assert said in str(told.value)
    assert str(told.value).count("\n") == 0
    if "break" in said:
        first = int(np.flatnonzero(table.end <= table.start)[0]) + 1
        count = int((table.end <= table.start).sum())
        assert f"{count:,} rows" in str(told.value)
        assert f"row {first:,};" in str(told.value)


# --- completion


def test_what_known_cells_determine_is_filled_and_kept():
    data = read(routes)
    real = frame(routes)
    partial = complete(real[["origin", "dest"]].head(3), data.config())
    names = list(real)
    assert partial.known[:, names.index("distance")].all()
    column = data.form.columns[names.index("distance")]
    codes = partial.rows[:, names.index("distance")]
    assert (column.offset + column.unit * codes).tolist() == real.distance.head(3).tolist()
    assert not partial.known[:, names.index("air")].any()
    pairs = set(zip(real.origin, real.dest))
    other = next((a, b) for a in "EJL" for b in sorted({*real.dest}) if (a, b) not in pairs)
    partial = complete(pd.DataFrame([other], columns=["origin", "dest"]), data.config())
    assert partial.known.tolist() == [[True, True, False, False]]  # nothing is known of such
    assert "is not beside" in partial.notes[0]


def test_a_cell_that_is_missing_where_others_are_can_be_given_without_them():
    """That they have a value then is not certain in samples, which is said."""
    data, real = read(flown), frame(flown)
    row = real[real.belt.notna()].head(1)
    for names, notes in (["belt"], 1), (["gate", "belt", "air", "late", "planned"], 0):
        partial = complete(row[names], data.config())
        assert partial.known.sum() == len(names) + ("late" in names)  # and when it left
        assert (
            len([note for note in partial.notes if "some samples may have no value" in note])
            == notes
        )


def test_what_is_looked_up_as_missing_is_not_known():
    rng = np.random.default_rng(0)
    word = rng.choice(list("abcd"), ROWS)
    code = pd.Series(word).map({"a": 1.5, "b": 2.5, "c": 4.0})
    data = load(pd.DataFrame({"word": word, "code": code, "x": rng.normal(size=ROWS)}))
    partial = complete(pd.DataFrame({"word": ["a", "d"]}), data.config())
    assert partial.known[:, 1].tolist() == [True, False]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"distance": [None]}, None),
        ({"distance": ["own"]}, 'fill "origin" and "dest" too, or leave "distance" empty'),
        ({"dest": ["own"]}, 'fill "origin" too, or leave "dest" empty'),
        ({"air": ["own"]}, 'fill "distance" too, or leave "air" empty'),
        ({"origin": ["own"]}, None),
        ({"origin": ["own"], "dest": ["own"], "distance": ["other"]}, "contradicts"),
    ],
)
def test_a_cell_that_others_determine_needs_them(cells, said):
    data, real = read(routes), frame(routes)
    other = real.distance[real.distance != real.distance[0]].iloc[0]
    row = {
        name: [{"own": real.loc[0, name], "other": other}.get(cell[0])]
        for name, cell in cells.items()
    }
    table = pd.DataFrame({"air": [np.nan], **row})
    if said is None:
        partial = complete(table, data.config())
        assert partial.known.sum() == sum(cell != [None] for cell in cells.values())
        return
    with pytest.raises(InputError) as told:
        complete(table, data.config())
    assert said in str(told.value)
