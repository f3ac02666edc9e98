"""Columns that name the rows are left out of the model and drawn anew; no other column is."""

import re
import uuid

import numpy as np
import pytest

from undiffuse.data import complete, conform, load, restore
from undiffuse.data.tables.identified import FEWEST
from undiffuse.data.tables.text import IDENTIFIER
from undiffuse.errors import InputError

pa = pytest.importorskip("pyarrow")

ROWS = 60
RNG = np.random.default_rng(0)
UUIDS = [str(uuid.UUID(bytes=RNG.bytes(16), version=4)) for _ in range(ROWS)]
SHUFFLED = RNG.permutation(ROWS).tolist()
FOUND = {
    "PassengerId": [*range(1, ROWS + 1)],
    "customer_id": RNG.choice(10**9, ROWS, replace=False).tolist(),
    "index": [10 * i for i in SHUFFLED],
    "code": [f"ID{i:05}" for i in SHUFFLED],
    "ticket": [f"A/{i + 95}-x" for i in SHUFFLED],
    "id": [f"{i + 7:04}" for i in SHUFFLED],
    "token": UUIDS,
    "TOKEN": [one.upper() for one in UUIDS],
}
PATTERNS = {
    "code": r"ID\d{5}",
    "ticket": r"A/\d{3}-x",
    "id": r"\d{4}",
    "token": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "TOKEN": r"[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}",
}
KEPT = {
    "amount": RNG.choice(10**7, ROWS, replace=False).tolist(),
    "year": [*range(1950, 1950 + ROWS)],
    "time": [*range(ROWS)],
    "paid": RNG.choice(10**6, ROWS, replace=False).tolist(),
    "grid_width": [*range(ROWS)],
    "body_mass_index": RNG.choice(10**6, ROWS, replace=False).tolist(),
    "real id": RNG.normal(size=ROWS).tolist(),
    "user_id": [i // 2 for i in range(ROWS)],
    "group_id": [None, *range(1, ROWS)],
}
X = [i % 7 / 2 for i in range(ROWS)]


def law_of_new_values(name, values):
    """New values are unlike each other and all in training, of their pattern, in any number."""
    data = load(pa.table({"x": X, name: values}))
    assert [column.name for column in data.form.columns] == ["x"]
    assert any(f'"{name}" names the rows' in note for note in data.notes)
    form = restore(data.config())[1]
    table = form.present(data.loaded.rows.take(np.arange(50)))
    assert table.column_names == ["x", name]
    assert table.schema.field(name).type == pa.array(values).type
    new = table.column(name).to_pylist()
    assert len(set(new)) == 50
    assert not set(new) & set(values)
    assert new[:20] == form.identifiers[0].values(20).to_pylist()
    assert all(re.fullmatch(PATTERNS.get(name, r"\d+"), str(one)) for one in new)


@pytest.mark.parametrize("name", FOUND)
def test_identifiers_are_drawn_anew(name):
    law_of_new_values(name, FOUND[name])


def test_numbers_go_on_after_the_largest_by_their_step():
    assert load(pa.table({"x": X, "index": FOUND["index"]})).form.identifiers[0].first == 600
    table = load(pa.table({"x": X, "code": FOUND["code"]})).form.identifiers[0].values(2)
    assert table.to_pylist() == ["ID00060", "ID00061"]


def test_a_training_on_samples_draws_other_uuids():
    first = load(pa.table({"x": X, "token": UUIDS})).form.identifiers[0].values(ROWS).to_pylist()
    second = load(pa.table({"x": X, "token": first})).form.identifiers[0].values(ROWS).to_pylist()
    assert not set(first) & set(second)


@pytest.mark.parametrize("name", KEPT)
def test_a_column_that_may_mean_something_is_modelled(name):
    data = load(pa.table({"x": X, name: KEPT[name]}))
    assert [column.name for column in data.form.columns] == ["x", name]
    assert not data.form.identifiers


def test_few_rows_have_identifiers_only_if_their_owner_says_so():
    for rows, found in ((FEWEST - 1, []), (FEWEST, ["id"])):
        table = pa.table({"x": X[:rows], "id": [*range(rows)]})
        assert [one.name for one in load(table).form.identifiers] == found
        named = load(table, types={"id": IDENTIFIER})
        assert [one.name for one in named.form.identifiers] == ["id"]


def test_free_text_is_left_out_and_not_drawn():
    texts = [f"{word} and {i} more things" for i, word in enumerate(UUIDS)]
    data = load(pa.table({"x": X, "remark": texts}))
    assert data.form.present(data.loaded.rows.take(np.arange(3))).column_names == ["x"]
    assert 'column "remark" has 60 different values in 60 rows, as an' in data.notes[0]


def test_the_owner_decides():
    table = pa.table({"x": X, "customer_id": FOUND["customer_id"], "amount": KEPT["amount"]})
    data = load(table, types={"customer_id": "number", "amount": IDENTIFIER})
    assert [one.name for one in data.form.identifiers] == ["amount"]
    assert [column.name for column in data.form.columns] == ["x", "customer_id"]
    again = load(table, **data.config()["reading"])
    assert again.fingerprint == data.fingerprint


def test_identifiers_keep_their_places_and_rows_of_the_data_have_none(tmp_path):
    table = pa.table({"id": FOUND["PassengerId"], "x": X, "token": UUIDS, "y": X[::-1]})
    data = load(table)
    rows = data.loaded.rows.take(np.arange(5))
    assert data.form.present(rows).column_names == table.column_names
    assert data.held_out.column_names == data.train[:2].column_names == ["x", "y"]
    data.form.save(rows, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().startswith('"id","x","token","y"\n61,0,')
    for new in (table, table.drop_columns(["id"])):
        assert len(conform(new, data.config())) == ROWS
        partial = complete(new, data.config())
        assert partial.known.all()
        said = [note for note in partial.notes if "samples get new values" in note]
        assert len(said) == len({"id", "token"} & set(new.column_names))


REFUSED = {
    "repeats": (
        {"x": X, "y": X},
        {"y": IDENTIFIER},
        'column "y" is not an identifier: it repeats or',
    ),
    "real": ({"x": X, "y": KEPT["real id"]}, {"y": IDENTIFIER}, 'column "y" is not an identifier'),
    "alone": ({"id": FOUND["PassengerId"]}, {}, "every column names the rows; there is nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_an_identifier_is_refused(name):
    columns, types, sentence = REFUSED[name]
    with pytest.raises(InputError, match=sentence):
        load(pa.table(columns), types=types)


def test_a_type_without_further_values_is_said():
    data = load(pa.table({"x": X, "id": pa.array(range(100, 40, -1), pa.int8())}))
    assert data.form.identifiers[0].values(27).to_pylist() == [*range(101, 128)]
    with pytest.raises(InputError, match=r'column "id": int8 has no 28 values after those in tr'):
        data.form.identifiers[0].values(28)
