"""From data to a run to new rows, as a person would type it, for each kind of data a person has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = {
    "unet": "--model.width 8 --model.multipliers 1 --model.blocks 1".split(),  # noqa: SIM905
    "mlp": "--model.width 32 --model.depth 1".split(),  # noqa: SIM905
}
QUICK = ("--steps", 24, "--precision", "float32", "--training.samples", 4, "--device", "cpu")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory):
    """`make(name, source, kind)`: the folder of a run that was trained once in this module,
    and what was said.
    """
    from undiffuse.cli.main import main

    made: dict[str, Path] = {}

    def train(name: str, source: object, kind: str) -> Path:
        if name not in made:
            out = tmp_path_factory.mktemp("runs") / name
            words = ["train", source, "--out", out, *QUICK, *TINY[kind], "--quiet"]
            assert main([str(word) for word in words]) == 0
            made[name] = out
        return made[name]

    return train


def test_digits_as_every_form_of_image(cli, make, tmp_path: Path) -> None:
    run = make("digits", "digits", "unet")

    def sample(name: str, *more: object) -> Path:
        cli("sample", run, "-n", 7, "--out", tmp_path / name, "--steps", 3, *more).done()
        return tmp_path / name

    rows = np.load(sample("s.npy"), allow_pickle=False)
    assert (rows.shape, rows.dtype) == ((7, 8, 8), np.uint8)
    assert rows.max() <= 16
    with np.load(sample("s.npz"), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["data"], rows)
        assert archive["labels"].dtype == np.int64
        labels = archive["labels"]
    grid = Image.open(sample("s.png"))
    assert grid.size[0] >= 3 * 8
    pictures = sorted(sample("folder/").iterdir())
    assert [picture.stem for picture in pictures] == [
        f"{i:05d}-{label}" for i, label in enumerate(labels)
    ]
    shown = np.stack([np.asarray(Image.open(picture)) for picture in pictures])
    np.testing.assert_array_equal(np.rint(shown / 255 * 16), rows)
    with np.load(sample("threes.npz", "--label", 3), allow_pickle=False) as archive:
        assert archive["labels"].tolist() == [3] * 7


def test_a_seed_is_a_result_and_a_batch_is_not(cli, make, tmp_path: Path) -> None:
    run = make("floats", floats(tmp_path), "unet")

    def sample(name: str, *more: object) -> bytes:
        cli("sample", run, "-n", 9, "--out", tmp_path / name, "--steps", 4, *more).done()
        return (tmp_path / name).read_bytes()

    assert sample("a.npy", "--seed", 5) == sample("b.npy", "--seed", 5)
    assert sample("c.npy", "--seed", 6) != sample("a.npy", "--seed", 5, "--overwrite")
    sample("small.npy", "--seed", 5, "--batch", 2)
    one, other = np.load(tmp_path / "a.npy"), np.load(tmp_path / "small.npy")
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("method", ["deis", "published", "heun", "dpmpp", "ancestral"])
def test_every_method_runs_and_they_differ(cli, make, tmp_path: Path, method: str) -> None:
    run = make("digits", "digits", "unet")
    cli("sample", run, "-n", 2, "--out", tmp_path / "default.npy", "--steps", 3).done()
    cli(
        "sample", run, "-n", 2, "--out", tmp_path / "m.npy", "--steps", 3, "--method", method
    ).done()
    same = (tmp_path / "m.npy").read_bytes() == (tmp_path / "default.npy").read_bytes()
    assert same == (method == "deis"), "unless told, deis"


def test_a_folder_of_photos_in_class_folders(cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("cat", 60), ("dog", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(rng.normal(level, 20, (12, 18, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    facts = json.loads(cli("info", tmp_path / "photos", "--json").done().out)
    assert facts["classes"] == {"cat": 12, "dog": 12}
    run = tmp_path / "run"
    size = ("--data.size", "8,12")
    said = cli("train", tmp_path / "photos", "--out", run, *QUICK, *TINY["unet"], *size).done()
    assert "cat 12, dog 12" in said.err
    assert "undiffuse sample" in said.err
    assert said.out == ""
    cli("sample", run, "-n", 3, "--out", tmp_path / "new", "--steps", 2, "--label", "dog").done()
    pictures = sorted((tmp_path / "new").iterdir())
    assert [picture.name for picture in pictures] == [f"{i:05d}-dog.png" for i in range(3)]
    assert {(Image.open(picture).size, Image.open(picture).mode) for picture in pictures} == {
        ((12, 8), "RGB")
    }
    more = cli("train", "--out", run, "--resume", "--steps", 26, "--json").done()
    assert json.loads(more.out)["step"] == 26


def floats(folder: Path) -> Path:
    """(40, 5, 33, 20) floats with a scale and a place of its own for each channel."""
    file = folder / "grids.npy"
    x = np.random.default_rng(0).normal(size=(40, 5, 33, 20)).astype(np.float32)
    np.save(
        file, x * np.array([1, 10, 0.1, 5, 2])[:, None, None] + np.arange(5)[:, None, None] * 100
    )
    return file


def test_an_array_of_floats(cli, make, tmp_path: Path) -> None:
    run = make("floats", floats(tmp_path), "unet")
    cli("sample", run, "-n", 4, "--out", tmp_path / "s.npy", "--steps", 3, "--trajectory").done()
    rows = np.load(tmp_path / "s.npy", allow_pickle=False)
    assert rows.shape == (4, 5, 33, 20)
    assert rows.dtype == np.load(tmp_path / "grids.npy").dtype
    path = np.load(tmp_path / "s-trajectory.npy", allow_pickle=False)
    assert path.shape == (3, 4, 5, 33, 20)
    np.testing.assert_array_equal(path[-1], rows)
    assert cli("sample", run, "-n", 4, "--out", tmp_path / "s.csv").refused("s.csv", ".npy")


def test_the_trajectory_of_pictures_is_a_picture(cli, make, tmp_path: Path) -> None:
    run = make("digits", "digits", "unet")
    words = (
        "sample",
        run,
        "-n",
        11,
        "--out",
        tmp_path / "s.png",
        "--steps",
        5,
        "--batch",
        3,
        "--trajectory",
    )
    cli(*words).done()
    width, height = Image.open(tmp_path / "s-trajectory.png").size
    assert width / height == pytest.approx(5 / 8, rel=0.1), "five steps across, eight samples down"
    assert cli(*words).refused("s.png", "--overwrite")
    cli(*words, "--overwrite").done()


TABLE = "age,income,city,member,visits\n"


def table(folder: Path) -> Path:
    """Numbers, whole numbers, categories and booleans, some of them missing."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(120):
        income = "" if i % 7 == 0 else f"{rng.lognormal(8):.2f}"
        city = "" if i % 11 == 0 else rng.choice(["Oslo", "Lima", "Pune"])
        member = "true" if rng.random() < 0.3 else "false"
        lines.append(f"{rng.integers(18, 80)},{income},{city},{member},{rng.integers(0, 4)}\n")
    file = folder / "people.csv"
    file.write_text(TABLE + "".join(lines))
    return file


def test_a_table_with_missing_values(cli, make, tmp_path: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    source = table(tmp_path)
    told = cli("info", source).done().out
    assert "120: 108 to train on, 12 held out" in told
    assert "income" in told
    assert "missing" in told
    run = make("table", source, "mlp")
    cli("sample", run, "-n", 50, "--out", tmp_path / "s.csv", "--steps", 4).done()
    cli("sample", run, "-n", 50, "--out", tmp_path / "s.parquet", "--steps", 4).done()
    before, csv = pyarrow.csv.read_csv(source), pyarrow.csv.read_csv(tmp_path / "s.csv")
    parquet = pyarrow.parquet.read_table(tmp_path / "s.parquet")
    assert csv.column_names == parquet.column_names == before.column_names
    assert (tmp_path / "s.csv").read_text().splitlines()[0].replace('"', "") == TABLE.strip()
    assert [str(field.type) for field in parquet.schema] == [
        str(field.type) for field in before.schema
    ]
    assert csv.num_rows == parquet.num_rows == 50
    assert set(parquet["city"].to_pylist()) <= {"Oslo", "Lima", "Pune", "", None}
    ages = parquet["age"].to_pylist()
    assert min(ages) >= 18
    assert max(ages) < 80
    assert cli("sample", run, "-n", 4, "--out", tmp_path / "s.png").refused("s.png", ".csv")
    assert not (tmp_path / "s.png").exists()


def test_a_folder_of_recordings(cli, make, tmp_path: Path) -> None:
    import soundfile

    (tmp_path / "notes").mkdir()
    time = np.arange(2000) / 4000
    for i in range(12):
        wave = 0.4 * np.sin(2 * np.pi * (200 + 20 * i) * time)
        soundfile.write(tmp_path / "notes" / f"{i}.wav", wave, 4000)
    out = tmp_path / "run"
    sizes = ("--model.patch", 50, "--data.size", 400)
    cli("train", tmp_path / "notes", "--out", out, *QUICK, *TINY["unet"], *sizes).done()
    cli("sample", out, "-n", 3, "--out", tmp_path / "new", "--steps", 3).done()
    files = sorted((tmp_path / "new").iterdir())
    assert len(files) == 3
    for file in files:
        wave, rate = soundfile.read(file)
        assert (file.suffix, rate, wave.shape) == (".wav", 4000, (400,))
    assert "4,000" in cli("info", tmp_path / "notes").done().out


def test_info_of_a_run_is_what_the_run_was(cli, make) -> None:
    run = make("digits", "digits", "unet")
    told = json.loads(cli("info", run, "--json").done().out)
    assert (told["steps"], told["preset"], told["finished"]) == (24, "edm", True)
    shown = cli("info", run).done()
    assert shown.err == ""
    for fragment in (
        "digits",
        "edm",
        f"{told['parameters']:,} parameters",
        f"{told['held_out']['loss']:.4g}",
    ):
        assert fragment in shown.out
    assert told["resume"] in shown.out
    assert shown.out.count("━") > len(told["held_out"]["levels"]["loss"])


def test_quiet_is_quiet_and_json_is_json(cli, tmp_path: Path) -> None:
    words = ("train", "moons", "--steps", 3, *TINY["mlp"], "--device", "cpu")
    quiet = cli(*words, "--out", tmp_path / "quiet", "--quiet").done()
    assert (quiet.out, quiet.err) == ("", "")
    told = cli(*words, "--out", tmp_path / "json", "--json", "--quiet").done()
    result = json.loads(told.out)
    assert told.err == ""
    assert (result["step"], result["stopped"], result["run"]) == (3, False, str(tmp_path / "json"))
    assert Path(result["preview"]).is_file()
    sampled = cli(
        "sample", tmp_path / "json", "-n", 2, "--out", tmp_path / "s.npy", "--json", "--quiet"
    ).done()
    assert json.loads(sampled.out)["out"] == str(tmp_path / "s.npy")


def test_a_run_starts_from_another_with_its_sizes(cli, tmp_path: Path) -> None:
    words = ("--steps", 3, "--device", "cpu", "--quiet")
    cli("train", "moons", "--out", tmp_path / "a", *words, *TINY["mlp"], "--preset", "ddpm").done()
    cli("train", "rings", "--out", tmp_path / "b", *words, "--init", tmp_path / "a").done()
    one, other = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert one["model"]["network"] == other["model"]["network"]
    assert other["preset"] == "ddpm"
    assert cli(
        "train", "digits", "--out", tmp_path / "c", *words, "--init", tmp_path / "a"
    ).refused("mlp")
    assert not (tmp_path / "c").exists()


def test_options_of_a_file_reach_the_run(cli, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'steps = 3\ndevice = "cpu"\n'
        "[model]\nwidth = 24\ndepth = 1\n[training]\nbatch = 20\nlr = 2e-3\n"
    )
    cli(
        "train", "moons", "--out", tmp_path / "r", "--config", file, "--model.width", 16, "--quiet"
    ).done()
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["model"]["network"]["width"] == 16
    assert config["model"]["network"]["depth"] == 1
    assert (config["training"]["batch"], config["training"]["lr"], config["training"]["steps"]) == (
        20,
        2e-3,
        3,
    )
