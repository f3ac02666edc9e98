"""Objects in Python: tensors, pairs and torch data sets."""

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.data import load
from undiffuse.errors import InputError


def everything(data):
    return data.loaded.rows.take(np.arange(len(data.loaded.rows)))


class Pairs(torch.utils.data.Dataset):
    classes = ("zero", "one", "two")

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return self.make(i)


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "make",
    [
        lambda i: (IMAGES[i], i % 3),
        lambda i: (torch.from_numpy(IMAGES[i]), torch.tensor(i % 3)),
        lambda i: (Image.fromarray(IMAGES[i]), np.int64(i % 3)),
    ],
)
def test_torch_data_sets_are_read_once(make):
    data = load(Pairs(make))
    np.testing.assert_array_equal(everything(data), IMAGES)
    np.testing.assert_array_equal(data.labels, np.arange(12) % 3)
    assert data.classes == ("zero", "one", "two")


def test_data_sets_without_labels_and_lists():
    rows = IMAGES.astype(np.float32)
    for source in (
        Pairs(lambda i: rows[i]),
        torch.utils.data.TensorDataset(torch.from_numpy(rows)),
        list(rows),
    ):
        data = load(source)
        np.testing.assert_array_equal(everything(data), rows)
        assert data.labels is None
    np.testing.assert_array_equal(
        everything(load([[1.0, 2.0], [3.0, 4.0], [4.0, 5.0]])), [[1, 2], [3, 4], [4, 5]]
    )
    with_targets = load(Pairs(lambda i: (rows[i], i / 7)))
    assert with_targets.labels is None
    assert with_targets.conditions == {"vector": 2}  # a number, and whether it is known


def test_tensors_and_pairs():
    rows = torch.arange(40, dtype=torch.bfloat16).reshape(20, 2)
    np.testing.assert_array_equal(
        everything(load(rows.requires_grad_())), np.arange(40.0).reshape(20, 2)
    )
    assert load((rows, None)).labels is None
    assert load((rows, ["b", "a"] * 10)).classes == ("a", "b")


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(range(3))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            Pairs(lambda i: np.zeros(3 + i)),
            "item 1 has shape (4,) and type float64, item 0 has (3,) and float64; make",
        ),
        (
            Pairs(lambda i: {"image": 0, "label": 1}),
            "its items are dictionaries (image, label); give (value, label)",
        ),
        (Stream(), "a data set without numbered items"),
        (7, "a int cannot be read; give a path"),
        ([], "it has no rows"),
        ({}, "a dict cannot be read"),
    ],
)
def test_objects_that_cannot_be_read_are_refused(source, sentence):
    with pytest.raises(InputError) as refused:
        load(source)
    assert sentence in str(refused.value)
