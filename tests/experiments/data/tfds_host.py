"""A host of small files, which tfds takes for a data set, and what tfds itself makes of them."""

import contextlib
import functools
import gzip
import http.server
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.cli.errors import UserError
from experiments.data.readers import tfds_images


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def hosting(builder: Any, folder: Path, names: list[str]) -> Iterator[str]:
    """Serves files of a folder; tfds takes them and their checksums for the builder's own."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums
    from tensorflow_datasets.core.utils import Size

    with pytest.MonkeyPatch.context() as patch, serving(folder) as url:
        patch.setenv("no_proxy", "*")
        url_infos = {}
        for name in names:
            info = checksums.compute_url_info(tfds.core.Path(folder / name))
            url_infos[url + name] = checksums.UrlInfo(Size(info.size), info.checksum, name)
        patch.setattr(builder, "url_infos", url_infos)
        yield url


def refused(function: Callable[[], object]) -> str:
    """The one line of a refusal."""
    with pytest.raises(UserError) as caught:
        function()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def told_or(function: Callable[[], Any]) -> Any:
    """What a function returns, or the one line of its refusal."""
    try:
        return function()
    except UserError as error:
        message = str(error)
    assert "\n" not in message
    return message


def forbid_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*args: object) -> None:
        raise AssertionError("prepared once more")

    monkeypatch.setattr(tfds_images, "_prepare", prepare)


def own_examples(
    builder: Any, module: Any, folder: Path, scratch: Path
) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """The examples, by split, that a builder of tfds makes itself from files of a folder.

    It reads files with TensorFlow, whose part Python plays here.
    """

    def unpacked(path: str) -> str:
        to = scratch / Path(path).name.replace(".", "_")
        if path.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(to)
        elif path.endswith(".tar.gz"):
            with tarfile.open(path) as tar:
                tar.extractall(to, filter="data")
        else:
            to.write_bytes(gzip.decompress(Path(path).read_bytes()))
        return str(to)

    def every(paths: Any) -> Any:
        if isinstance(paths, str):
            return unpacked(paths)
        return {key: unpacked(path) for key, path in paths.items()}

    def downloaded(urls: Any) -> Any:
        if isinstance(urls, str):
            return every(str(folder / urls.rpartition("/")[2]))
        return every({key: str(folder / url.rpartition("/")[2]) for key, url in urls.items()})

    scratch.mkdir()
    manager = SimpleNamespace(download_and_extract=downloaded, extract=every)
    tensorflow = SimpleNamespace(io=SimpleNamespace(gfile=SimpleNamespace(GFile=open)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "tf", tensorflow)
        splits = builder._split_generators(manager)
        if isinstance(splits, dict):
            return {str(name): list(examples) for name, examples in splits.items()}
        return {
            str(split.name): list(builder._generate_examples(**split.gen_kwargs))
            for split in splits
        }
