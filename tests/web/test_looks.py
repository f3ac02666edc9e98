"""What looking shows is what the library computes: rows, paths, neighbours, cells, the toy."""

from __future__ import annotations

import base64
import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import undiffuse as ud
from undiffuse.data.pictures import tile_images, untiled
from undiffuse.data.toys import draw_toy
from undiffuse.diffusion import SCHEDULES
from undiffuse.errors import InputError
from undiffuse.run import Run
from undiffuse.web.faces import shown_rows
from undiffuse.web.looking import (
    draws_of_cells,
    held_out_scores_of,
    nearest_of,
    path_of,
    surprise_of,
)
from undiffuse.web.toy import CLOUDS, TOY_SCHEDULES, toy, toy_oracle

Opened = tuple[Run, Any]


def opened(trained: Path, name: str) -> Opened:
    run = Run(trained / "runs" / name)
    return run, run.model()


@pytest.fixture(scope="module")
def rows_run(trained: Path) -> Opened:
    return opened(trained, "rows")


@pytest.fixture(scope="module")
def table_run(trained: Path) -> Opened:
    return opened(trained, "table")


@pytest.fixture(scope="module")
def images_run(trained: Path) -> Opened:
    return opened(trained, "images")


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))


# --- rows


@pytest.mark.parametrize("shape", [(1, 8, 8, 1), (1, 7, 30, 3), (1, 100, 60, 1), (1, 300, 300, 3)])
def test_a_picture_of_one_image_is_that_image(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = np.asarray(untiled(tile_images(image))).reshape(-1)
    factor = max(1, round(64 / max(shape[1:3])))
    assert (found == image[0].repeat(factor, 0).repeat(factor, 1).reshape(-1)).all()


def test_rows_of_images_are_their_pixels(images_run: Opened) -> None:
    _, model = images_run
    rows = model.sample_rows(2, seed=3)
    shown = shown_rows(model, rows, values=True)
    for row, item in zip(rows, shown["items"], strict=True):
        assert (pixels(item["picture"])[::8, ::8] == row).all()
        assert item["values"] == row.reshape(-1).tolist()
    assert shown["row_shape"] == [8, 8]
    assert shown["axes"] == "HW"


def test_rows_of_a_table_are_the_cells_of_its_file(table_run: Opened, tmp_path: Path) -> None:
    _, model = table_run
    rows = model.sample_rows(5, seed=1)
    model.form.save(rows, tmp_path / "rows.csv")
    first, *lines = (tmp_path / "rows.csv").read_text().splitlines()
    shown = shown_rows(model, rows)
    assert shown["columns"] == [name.strip('"') for name in first.split(",")]
    assert [item["cells"] for item in shown["items"]] == [
        [cell.strip('"') for cell in line.split(",")] for line in lines
    ]


def test_recordings_can_be_heard_and_long_curves_keep_their_ends(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-9000, 9000, (3, 2000)).astype("<i2")
    for i, one in enumerate(samples):
        with wave.open(str(tmp_path / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(one.tobytes())
    model = ud.edm(width=8)
    data = model.meet(ud.load(tmp_path))
    rows = data.sample_batch(1)["row"].numpy()
    [item] = shown_rows(model, rows)["items"]
    with wave.open(io.BytesIO(base64.b64decode(item["sound"].split(",")[1]))) as file:
        assert file.getframerate() == 8000
        assert (np.frombuffer(file.readframes(10**6), "<i2") == rows.reshape(-1)).all()
    [curve] = item["curves"]
    assert len(curve) == 512
    assert (min(curve), max(curve)) == (rows.min(), rows.max())


@pytest.mark.parametrize("form", ["png", "npy"])
def test_gaps_of_an_uploaded_picture_are_null(shared: Any, form: str) -> None:
    """A single image is a row: what is transparent in it, or NaN, is to be drawn."""
    pixels, gap = np.random.default_rng(0).integers(0, 256, (8, 8)), np.zeros((8, 8), bool)
    gap[3:, :5] = True
    file = io.BytesIO()
    if form == "png":
        alpha = np.where(gap, 0, 255)
        Image.fromarray(np.stack([pixels, alpha], 2).astype(np.uint8), "LA").save(file, "PNG")
    else:
        np.save(file, np.where(gap, np.nan, pixels)[None])
    sent = shared.post("/api/v1/uploads", files=[("files", (f"torn.{form}", file.getvalue()))])
    assert sent.json()["name"] == f"torn.{form}"
    asked = {"upload": sent.json()["id"], "rows": [0], "values": True}
    [item] = shared.post("/api/v1/runs/images/looks/rows", json=asked).json()["items"]
    expected = [None if hidden else value for value, hidden in zip(pixels.flat, gap.flat)]
    assert item["values"] == expected
    asked["rows"] = [1]
    assert shared.post("/api/v1/runs/images/looks/rows", json=asked).status_code == 422


# --- a sample


@pytest.mark.parametrize("method", [None, "heun", "ancestral", "deis"])
def test_a_path_ends_at_the_sample(images_run: Opened, method: str | None) -> None:
    _, model = images_run
    asked = {"seed": 5, "method": method, "steps": 4}
    given = {name: value for name, value in asked.items() if value is not None}
    drawn = shown_rows(model, model.sample_rows(3, **given))["items"]
    found = path_of(model, row=2, **asked)
    assert found["sample"]["items"] == drawn[2:]
    last = found["frames"][-1]
    assert np.abs(pixels(last["x_hat"]["picture"]) * 1.0 - pixels(drawn[2]["picture"])).max() <= 1
    noise = [frame["noise"] for frame in found["frames"]]
    assert noise == sorted(noise, reverse=True)
    assert found["evaluations"] == {"heun": 7}.get(method or "", 4)


def test_a_model_of_one_pass_has_no_path(tmp_path: Path) -> None:
    model = ud.vae(ud.load(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)))
    found = path_of(model, seed=0, row=1)
    assert found["frames"] == []
    wanted = model.sample_rows(2)[1].tolist()  # equal to rounding, whatever the batch
    [item] = found["sample"]["items"]
    assert [float(cell) for cell in item["cells"]] == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    with pytest.raises(InputError, match="one pass"):
        path_of(model, seed=0, row=0, guidance=2.0)


def test_the_nearest_training_row_is_that(rows_run: Opened) -> None:
    run, model = rows_run
    training = run.data().sample_batch(1000)["row"]
    for row in (training[7:8].numpy(), model.sample_rows(1)):
        found = nearest_of(run, model, row)
        x, all_x = (
            model.transform.encode(torch.as_tensor(one), torch.zeros_like)[0]
            for one in (row, training)
        )
        distance = (all_x - x).double().norm(dim=1)
        assert found["distance"] == pytest.approx(float(distance.min()), abs=1e-6)
        best = shown_rows(model, training[int(distance.argmin())][None].numpy())["items"][0]
        assert found["item"] == best


# --- scores, surprise


def test_p_values_are_ranks_among_held_out_rows(rows_run: Opened) -> None:
    run, model = rows_run
    asked = [-1e9, -4.0, None, 1e9]
    found = held_out_scores_of(run, model, asked)
    nats = np.array(found["nats"])
    assert len(nats) == run.data().n_held_out
    for score, p in zip(asked, found["p_values"], strict=True):
        wanted = None if score is None else (np.sum(nats <= score) + 1) / (len(nats) + 1)
        assert p == wanted


def test_an_odd_number_is_what_surprises(rows_run: Opened) -> None:
    run, model = rows_run
    for column in range(3):
        row = np.zeros((1, 3), np.float32)
        row[0, column] = 40.0
        found = surprise_of(run, model, row)
        assert found["kind"] == "columns"
        assert found["values"][0][0] == str(column)


def test_an_odd_pixel_is_what_surprises(images_run: Opened) -> None:
    run, model = images_run
    row = np.full((1, 8, 8), 128, np.uint8)
    row[0, 2, 5] = 255
    found = surprise_of(run, model, row)
    assert found["kind"] == "map"
    assert np.unravel_index(np.argmax(found["values"]), (8, 8)) == (2, 5)


def test_a_tables_columns_are_named(table_run: Opened) -> None:
    run, model = table_run
    found = surprise_of(run, model, run.data().sample_batch(1)["row"].numpy())
    assert {name for name, _ in found["values"]} == set(model.form.column_sizes)


# --- cells


def test_empty_cells_are_distributed_and_the_others_stay(table_run: Opened) -> None:
    _, model = table_run
    found = draws_of_cells(model, {"height": "170.5"}, n=16)
    assert found["columns"] == list(model.form.column_sizes)
    at = found["columns"].index("height")
    assert {line[at] for line in found["rows"]} == {"170.5"}
    assert found["empty"].keys() == set(found["columns"]) - {"height"}
    for spread in found["empty"].values():
        if "bars" in spread:
            assert sum(share for _, share in spread["bars"]) == pytest.approx(1 - spread["missing"])
        else:
            assert sum(spread["counts"]) == round(16 * (1 - spread["missing"]))


def test_cells_of_no_column_are_refused(table_run: Opened, rows_run: Opened) -> None:
    with pytest.raises(InputError, match="no column"):
        draws_of_cells(table_run[1], {"<b>": "1"}, n=4)
    with pytest.raises(InputError, match="not of a table"):
        draws_of_cells(rows_run[1], {}, n=4)


# --- the routes


def test_looks_wait_their_turn_and_name_one_place(shared: Any) -> None:
    place = "/api/v1/runs/rows/looks/"
    for body in ({}, {"upload": "x", "held_out": True}):
        assert shared.post(place + "rows", json=body).status_code == 422
    assert shared.post(place + "rows", json={"job": "none"}).status_code == 404
    assert shared.post(place + "rows", json={"held_out": True, "rows": [10**6]}).status_code == 422
    assert shared.post(place + "rows", json={"held_out": True, "file": "x"}).status_code == 422
    found = shared.post(place + "rows", json={"held_out": True, "rows": [1], "values": True}).json()
    assert len(found["items"][0]["values"]) == 3
    answer = shared.post(place + "path", json={"row": 1}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert shared.post("/api/v1/runs/none/looks/path", json={}).status_code == 404


def test_rows_of_a_job_are_those_that_it_drew(shared: Any) -> None:
    answer = shared.post(
        "/api/v1/runs/rows/sample",
        json={"n": 3, "seed": 2, "form": "npy"},
        headers={"Prefer": "respond-async"},
    ).json()
    for _ in range(600):
        if shared.get(f"/api/v1/jobs/{answer['id']}").json()["state"] == "done":
            break
    drawn = np.load(io.BytesIO(shared.get(f"/api/v1/jobs/{answer['id']}/result").content))
    asked = {"job": answer["id"], "rows": [2, 0], "values": True}
    found = shared.post("/api/v1/runs/rows/looks/rows", json=asked).json()
    assert [item["values"] for item in found["items"]] == drawn[[2, 0]].tolist()
    assert shared.post("/api/v1/runs/table/looks/rows", json=asked).status_code == 422


# --- the toy


@pytest.mark.parametrize(
    ("cloud", "name"),
    [*((cloud, "linear") for cloud in CLOUDS), *(("eight", name) for name in TOY_SCHEDULES[:2])],
)
def test_the_toy_is_the_oracle(cloud: str, name: str) -> None:
    found, schedule = toy(cloud, name), SCHEDULES[name]()
    oracle = toy_oracle(cloud, schedule)
    axis = found["axis"]
    for i, (row, column) in ((2, (4, 20)), (9, (14, 3)), (18, (25, 11))):
        t = torch.tensor(found["times"][i], dtype=torch.float64)
        alpha, sigma = schedule(t)
        assert found["alpha"][i] == pytest.approx(float(alpha), abs=1e-3)
        assert found["sigma"][i] == pytest.approx(float(sigma), abs=1e-3)
        x = torch.tensor([[axis[column], axis[row]]], dtype=torch.float64, requires_grad=True)
        log_p = oracle.log_prob(x, t)
        [score] = torch.autograd.grad(log_p.sum(), x)
        hat = (x + sigma**2 * score) / alpha  # Tweedie's formula, from the density alone
        assert found["log_p"][i][row][column] == pytest.approx(float(log_p.detach()[0]), abs=0.3)
        assert found["x_hat"][i][row][column] == pytest.approx(hat[0].tolist(), abs=0.02)


def test_solvers_of_the_toy_meet_where_their_ode_ends() -> None:
    paths = toy()["paths"]
    solvers = ("ddim", "euler", "heun", "dpmpp", "deis")
    ends = {method: np.array(paths[method]["20"]["at"])[:, -1] for method in solvers}
    starts = {tuple(np.array(steps["5"]["at"])[:, 0].ravel()) for steps in paths.values()}
    assert len(starts) == 1
    for end in ends.values():
        assert np.abs(end - ends["heun"]).max() < 0.3
    schedule = SCHEDULES["linear_vp"]()
    grid = torch.tensor(paths["ddim"]["5"]["times"], dtype=torch.float64)
    (alpha, sigma), (next_alpha, next_sigma) = schedule(grid[0]), schedule(grid[1])
    first, second = torch.tensor(paths["ddim"]["5"]["at"], dtype=torch.float64)[:, :2].unbind(1)
    hat = toy_oracle("eight", schedule)(first, grid[0])  # Song, Meng and Ermon 2021, Eq. 12
    moved = next_alpha * hat + next_sigma * (first - alpha * hat) / sigma
    assert float((moved - second).abs().max()) < 0.01
    rows = draw_toy("gaussians8", 150, seed=7)
    rows = (rows - rows.mean(0)) / rows.std(ddof=1)
    near = np.linalg.norm(ends["heun"][:, None] - rows[None], axis=2).min(1)
    assert near.max() < 0.4


def test_a_toy_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="density"):
        toy("cats")
    with pytest.raises(InputError, match="schedule"):
        toy("eight", "edm")
