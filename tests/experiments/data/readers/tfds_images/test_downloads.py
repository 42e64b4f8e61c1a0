import socket
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.data.readers import tfds_images
from tests.experiments.data.readers.tfds_images.mnist import FILES, load, version_folder
from tests.experiments.data.tfds_host import QuietHandler, refused

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


def seed_downloads(data_dir: Path, files: Path) -> list[Path]:
    """Puts the files where tfds looks for what it has downloaded."""
    from tensorflow_datasets.core.download import resource

    folder = data_dir / "downloads" / "mnist"
    folder.mkdir(parents=True)
    paths = []
    for url, info in tfds.image_classification.MNIST.url_infos.items():
        path = folder / resource.get_dl_fname(url, info.checksum)
        path.write_bytes((files / info.filename).read_bytes())
        resource.write_info_file(
            url=url,
            path=tfds.core.Path(path),
            dataset_name="mnist",
            original_fname=info.filename,
            url_info=info,
        )
        paths.append(path)
    return paths


def test_earlier_downloads_need_no_network(
    host: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfds_images, "is_reachable", lambda url, timeout: False)
    with pytest.raises(tfds_images.UnavailableError):
        load(tmp_path)
    seed_downloads(tmp_path, files)
    assert len(load(tmp_path)[0].labels) == 1040


def test_wrong_checksum_of_a_download(
    host: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow_datasets.core.download import checksums

    url_infos = dict(tfds.image_classification.MNIST.url_infos)
    info = url_infos[host + FILES[0]]
    url_infos[host + FILES[0]] = checksums.UrlInfo(info.size, "0" * 64, FILES[0])
    monkeypatch.setattr(tfds.image_classification.MNIST, "url_infos", url_infos)
    assert "wrong checksum" in refused(lambda: load(tmp_path))
    assert not version_folder(tmp_path).exists()


def test_wrong_checksum_of_an_earlier_download(host: str, files: Path, tmp_path: Path) -> None:
    path = seed_downloads(tmp_path, files)[2]
    content = bytearray(path.read_bytes())
    # This changes the time stamp, which gzip does not notice.
    content[4] ^= 1
    path.write_bytes(content)
    message = refused(lambda: load(tmp_path))
    assert f"{path} has a wrong checksum" in message
    assert not version_folder(tmp_path).exists()


def test_interrupted_download_is_not_taken_for_whole(
    host: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection closes in the middle of a file; the file is whole the next time."""

    def send_half(handler: QuietHandler, source: Any, outputfile: Any) -> None:
        content = source.read()
        outputfile.write(content[: len(content) // 2])
        handler.close_connection = True

    with monkeypatch.context() as patch:
        patch.setattr(QuietHandler, "copyfile", send_half)
        refused(lambda: load(tmp_path))
        assert not version_folder(tmp_path).exists()
    assert len(load(tmp_path)[0].labels) == 1040


def test_reachable(host: str) -> None:
    assert tfds_images.is_reachable(host + FILES[0], 5)
    assert not tfds_images.is_reachable(host + "nothing", 5)


def test_not_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        start = time.monotonic()
        assert not tfds_images.is_reachable(f"http://127.0.0.1:{port}/", 0.3)
        assert time.monotonic() - start < 2
    assert not tfds_images.is_reachable(f"http://127.0.0.1:{port}/", 5)
    assert not tfds_images.is_reachable("nonsense", 5)
