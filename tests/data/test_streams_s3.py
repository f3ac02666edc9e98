"""s3:// against moto's server on this machine, with s3fs; both are extras of their own.

pip install 'undiffuse[remote]' 'moto[server]' && pytest tests/data/test_streams_s3.py
"""

from itertools import islice

import numpy as np
import pytest
from stream_files import FORMATS, numbers_in, write_files

from undiffuse.data import load
from undiffuse.errors import InputError

pytest.importorskip("s3fs", reason="s3:// needs undiffuse[remote]")
server = pytest.importorskip("moto.server", reason="the test of s3:// needs moto[server]")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The bucket "rows" of a server, with files of every format, and the same files here."""
    from s3fs import S3FileSystem

    started = server.ThreadedMotoServer(port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "anybody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("UNDIFFUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        store, folder = S3FileSystem(), tmp_path_factory.mktemp("here")
        store.mkdir("rows")
        for form in FORMATS:
            for path in write_files(folder / form, form).iterdir():
                store.pipe_file(f"rows/{form}/{path.name}", path.read_bytes())
        (folder / "table.csv").write_text("a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(40)))
        store.put_file(str(folder / "table.csv"), "rows/table.csv")
        yield folder
    started.stop()


@pytest.mark.parametrize("form", FORMATS)
def test_s3_gives_the_rows_that_the_disk_gives(bucket, form):
    here, there = load(bucket / form, stream=True), load(f"s3://rows/{form}", stream=True)
    assert here.fingerprint == there.fingerprint
    ours, theirs = (islice(data.batches(16, seed=1), 12) for data in (here, there))
    for one, other in zip(ours, theirs):
        assert numbers_in(one["row"], form) == numbers_in(other["row"], form)
    some = load(f"s3://rows/{form}/part-{{001..002}}.{form}", stream=True)
    assert len(some.loaded.rows) == 70
    assert len(load(f"s3://rows/{form}/part-*.{form}", stream=True).loaded.rows) == 165


def test_s3_gives_a_single_table(bucket):
    assert load("s3://rows/table.csv").fingerprint == load(bucket / "table.csv").fingerprint


@pytest.mark.parametrize("place", ["s3://nowhere/x", "s3://nowhere", "s3://rows/no/such.npy"])
def test_what_is_not_there_is_one_sentence(bucket, place):
    with pytest.raises(InputError) as problem:
        load(place)
    said = str(problem.value)
    assert said == f"{place}: no such file, folder or bucket; check it."


def test_wrong_credentials_are_one_sentence(bucket, monkeypatch):
    """The store refuses: which of its own errors that is depends on the store."""
    from undiffuse.data.stream.stored import StoredFile

    class Refusing:
        def cat_file(self, path, start, end):
            raise PermissionError("Access Denied")

    place = StoredFile(Refusing(), "rows/x.npy", "x.npy", 10)
    with pytest.raises(InputError, match=r"you may not read it \(Access Denied\); check its perm"):
        place.read()
    assert np.isfinite(load(bucket / "npy").loaded.rows.take(np.arange(3))).all()
