"""Every kind of source becomes the same rows; wrong ones are one line that says what to mend."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from internvid_assets.lake import Lake
from internvid_assets.settings import Settings
from internvid_assets.store.objects import s3_client
from internvid_assets.videos import sources as module
from internvid_assets.videos.addresses import AddressError, canonical, host_of, suffix_of
from internvid_assets.videos.sources import Source, SourceError, discover, open_batches
from tests.videos.media_server import MediaServer, Resource, serving

YOUTUBE = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"


@pytest.fixture
def web() -> Iterator[tuple[str, MediaServer]]:
    with serving() as found:
        yield found


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("youtube:dQw4w9WgXcQ", YOUTUBE),
        ("https://youtu.be/dQw4w9WgXcQ?t=5", YOUTUBE),
        ("https://m.youtube.com/watch?list=PL1&v=dQw4w9WgXcQ", YOUTUBE),
        ("https://www.youtube.com/shorts/dQw4w9WgXcQ/", YOUTUBE),
        ("HTTPS://Example.ORG/A.mp4#t=3", "https://example.org/A.mp4"),
        ("https://example.org", "https://example.org/"),
        ("s3://bucket/Key.mp4", "s3://bucket/Key.mp4"),
        ("file:///a/../b.mp4", "/b.mp4"),
        ("/x/y/../z.mp4", "/x/z.mp4"),
        ("/x/s.tar#in/v.mp4", "/x/s.tar#in/v.mp4"),
        ("ytsearch5:people dancing", "ytsearch5:people dancing"),
    ],
)
def test_an_address_has_one_spelling(given: str, wanted: str) -> None:
    assert canonical(given) == wanted
    assert canonical(wanted) == wanted


@pytest.mark.parametrize("wrong", ["", "ftp://host/a.mp4", "http://", "http://a b/c", "youtube:short", "http://h:x/"])
def test_wrong_addresses_are_told(wrong: str) -> None:
    with pytest.raises(AddressError):
        canonical(wrong)


def test_hosts_and_suffixes() -> None:
    assert host_of("s3://b/k") == "s3://b" and host_of("http://h:81/a") == "h:81" and host_of("/a.mp4") == ""
    assert suffix_of("http://h/A.MP4?x=1.txt") == ".mp4" and suffix_of("http://h/watch?v=1.mp4") == ""
    assert suffix_of("/x/s.tar#v.webm") == ".webm" and suffix_of("/x/a.b/c") == ""


ROWS = [
    {
        "uri": "https://example.org/a.mp4", "title": "A", "tags": ["x", "y"], "language": "en", "license": "CC-BY-4.0",
        "caption": "a dog", "sections": [[1.0, 2.5]], "num_bytes": 5, "sha256": "ab" * 32,
    },
    {"url": "videos/b.mp4", "description": "of b", "query": "dogs", "sections": [], "tags": None},
    {"youtube_id": "dQw4w9WgXcQ", "title": "C"},
]  # fmt: skip


def wanted(folder: Path) -> list[Source]:
    return [
        Source(
            "https://example.org/a.mp4", title="A", tags=("x", "y"), language="en", license="CC-BY-4.0", caption="a dog",
            section_starts=(1.0,), section_ends=(2.5,), expected_bytes=5, expected_sha256="ab" * 32,
        ),
        Source(str(folder / "videos/b.mp4"), description="of b", query="dogs"),
        Source(YOUTUBE, youtube_id="dQw4w9WgXcQ", title="C"),
    ]  # fmt: skip


CSV = """uri,url,youtube_id,title,description,tags,query,language,license,caption,sections,num_bytes,sha256
https://example.org/a.mp4,,,A,,"x, y",,en,CC-BY-4.0,a dog,0:01-00:00:02.500,5,{sha}
,videos/b.mp4,,,of b,,dogs,,,,,,
,,dQw4w9WgXcQ,C,,,,,,,,,
""".format(sha="ab" * 32)


def write_manifest(path: Path) -> Path:
    if path.suffix == ".parquet":
        names = sorted({name for row in ROWS for name in row})
        pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in ROWS]), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    else:
        path.write_text("\ufeff" + CSV)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_manifest_gives_the_same_sources(tmp_path: Path, suffix: str) -> None:
    assert list(discover([write_manifest(tmp_path / f"list{suffix}")])) == wanted(tmp_path)


def test_tabs_separate_too(tmp_path: Path) -> None:
    (tmp_path / "list.tsv").write_text("url\ttitle\ttags\nhttps://example.org/a.mp4\tA, B\tx,y\n")
    assert list(discover([tmp_path / "list.tsv"])) == [
        Source("https://example.org/a.mp4", title="A, B", tags=("x", "y"))
    ]


def test_a_list_of_addresses(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# mine\nhttps://example.org/a.mp4\n\nb.mp4\n{YOUTUBE}&t=3\n")
    found = [(s.source_uri, s.youtube_id) for s in discover([tmp_path / "list.txt"])]
    assert found == [("https://example.org/a.mp4", None), (str(tmp_path / "b.mp4"), None), (YOUTUBE, "dQw4w9WgXcQ")]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_internvid_rows_of_a_video_are_one_source(tmp_path: Path, suffix: str) -> None:
    rows = [
        ("dQw4w9WgXcQ", "00:00:10.500", "00:00:12.000", "second"),
        ("aaaaaaaaaaa", "00:03:10.567", "00:03:11.200", "other"),
        ("dQw4w9WgXcQ", "00:00:01.000", "00:00:02.000", "first"),
        ("dQw4w9WgXcQ", "00:00:01.000", "00:00:02.000", "again"),
    ]
    names = ("YoutubeID", "Start_timestamp", "End_timestamp", "Caption")
    dicts = [dict(zip(names, row, strict=True)) | {"Aesthetic_Score": 4.5, "UMT_Score": 0.4} for row in rows]
    path = tmp_path / f"internvid{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(dicts), path)
    elif suffix == ".csv":
        path.write_text("\n".join([",".join(dicts[0]), *(",".join(map(str, row.values())) for row in dicts)]))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in dicts))
    other, first = discover([path])
    assert (first.source_uri, first.youtube_id) == (YOUTUBE, "dQw4w9WgXcQ")
    assert (first.section_starts, first.section_ends) == ((1.0, 10.5), (2.0, 12.0))
    assert first.section_captions == ("first", "second")
    assert (other.section_starts, other.section_ends) == ((190.567,), (191.2,))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "a.csv",
            "link,title\nhttp://h/a,b\n",
            "no column uri, url or youtube_id .it has link, title.: name the column",
        ),
        ("b.csv", "uri,title\nhttp://h/a.mp4,b\nhttp://h/c.mp4,d,e\n", "b.csv, row 2: 3 cells for 2 columns"),
        ("c.csv", "uri,sections\nhttp://h/a.mp4,\nhttp://h/b.mp4,9-3\n", "c.csv, row 2: section 9-3 must end after"),
        ("d.csv", "uri,num_bytes\nhttp://h/a.mp4,many\n", "row 1: num_bytes 'many' must be a whole number"),
        ("e.csv", "uri,sha256\nhttp://h/a.mp4,abc\n", "row 1: sha256 'abc' must have 64 hex digits"),
        ("f.csv", "uri,title\n,b\n", "row 1: there is no uri, url or youtube_id; mend or remove the row"),
        ("g.csv", 'uri,title\nhttp://h/a.mp4,"b\n', "row 1: .*; mend its quotes"),
        ("h.jsonl", '{"uri": "http://h/a.mp4"}\n{"uri": \n', "h.jsonl, row 2: not JSON"),
        ("i.jsonl", '{"uri": "http://h/a.mp4"}\n[1]\n', "row 2: not a JSON object"),
        ("j.jsonl", "", "j.jsonl is empty"),
        ("k.jsonl", '{"uri": "ftp://h/a.mp4"}\n', "row 1: 'ftp://h/a.mp4' begins with ftp://"),
        ("l.parquet", "no parquet", "l.parquet is not Parquet"),
        ("m.txt", "# nothing\n", "holds no addresses"),
        ("n.jsonl", '{"YoutubeID": "dQw4w9WgXcQ", "Start": 1}\n', "lacks Start_timestamp, End_timestamp"),
        (
            "o.jsonl",
            '{"YoutubeID": "dQw4w9WgXcQ", "Start_timestamp": "1", "End_timestamp": "2"}\n'
            '{"YoutubeID": "short", "Start_timestamp": "1", "End_timestamp": "2"}\n',
            "row 2: 'short' is no YouTube id",
        ),
        ("p.tar", "no tar", "p.tar cannot be read"),
    ],
)
def test_wrong_manifests_are_one_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=words) as caught:
        list(discover([tmp_path / name]))
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_what_is_not_there_is_told_before_the_first_source(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    for wrong, words in (
        (tmp_path / "none", "does not exist"),
        ("ftp://h/a", "begins with ftp://"),
        ("http://h/a.tar", "copy it"),
    ):
        with pytest.raises(SourceError, match=words):
            discover([tmp_path / "a.mp4", wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no files"):
        list(discover([tmp_path / "empty"]))


def test_a_folder_with_sidecars(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, data in {
        "b [dQw4w9WgXcQ].mp4": "", "b [dQw4w9WgXcQ].info.json": '{"title": "B", "tags": ["t"], "license": "CC0"}',
        "b [dQw4w9WgXcQ].txt": "alt", "b [dQw4w9WgXcQ].en.vtt": "", "sub/a.mp4": "", ".hidden.mp4": "", "lonely.srt": "",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(data)
    assert list(discover([tmp_path])) == [
        Source(
            str(tmp_path / "b [dQw4w9WgXcQ].mp4"), youtube_id="dQw4w9WgXcQ", title="B", tags=("t",), license="CC0", caption="alt"
        ),
        Source(str(tmp_path / "lonely.srt")),
        Source(str(tmp_path / "sub" / "a.mp4")),
    ]  # fmt: skip
    assert next(discover([tmp_path / "b [dQw4w9WgXcQ].mp4"])).title == "B"
    (tmp_path / "sub" / "a.json").write_text("{")
    with pytest.raises(SourceError, match=r"sidecar a.json is not JSON"):
        list(discover([tmp_path]))


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_webdataset_shard(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "00000.tar",
        {
            "000.json": b'{"title": "T", "language": "de"}', "000.mp4": b"12345", "000.txt": b"a cat", "000.de.vtt": b"WEBVTT",
            "001.json": b"{}", "002.webm": b"12",
        },
    )  # fmt: skip
    assert list(discover([tmp_path])) == [
        Source(
            f"{shard}#000.mp4", title="T", language="de", caption="a cat", subtitles=(f"{shard}#000.de.vtt",), expected_bytes=5
        ),
        Source(f"{shard}#002.webm", expected_bytes=2),
    ]  # fmt: skip
    write_tar(tmp_path / "00000.tar", {"000.json": b"{}"})
    with pytest.raises(SourceError, match="holds no videos"):
        list(discover([shard]))


def test_an_s3_prefix_is_listed_in_pages(cluster_settings: Settings) -> None:
    client, prefix = s3_client(cluster_settings.s3), f"listing-{cluster_settings.media_uri.split('/')[3]}"
    for number in range(1010):  # more than a page
        client.put_object(Bucket="internvid", Key=f"{prefix}/v{number:04d}.mp4", Body=b"")
    for name, data in {
        "v0003.json": b'{"title": "three"}',
        "v0003.en.srt": b"",
        ".x/a.mp4": b"",
        "v0003.txt": b"alt",
    }.items():
        client.put_object(Bucket="internvid", Key=f"{prefix}/{name}", Body=data)
    found = list(discover([f"s3://internvid/{prefix}/"], cluster_settings))
    assert [s.source_uri for s in found] == [f"s3://internvid/{prefix}/v{n:04d}.mp4" for n in range(1010)]
    assert (found[3].title, found[3].caption) == ("three", "alt")
    assert found[3].subtitles == (f"s3://internvid/{prefix}/v0003.en.srt",)
    for wrong in (f"s3://internvid/{prefix}-none/", "s3://no-such-bucket/x/"):
        with pytest.raises(SourceError, match=r"holds no objects|cannot be listed"):
            list(discover([wrong], cluster_settings))


def test_a_manifest_elsewhere_is_fetched(web: tuple[str, MediaServer], embedded_settings: Settings) -> None:
    address, server = web
    server.resources["/lists/all.csv"] = Resource(b"uri\nvideos/a.mp4\n", content_type="text/csv")
    for _ in range(2):
        found = list(discover([f"{address}/lists/all.csv"], embedded_settings))
        assert found == [Source(f"{address}/lists/videos/a.mp4")]
    with pytest.raises(SourceError, match=r"cannot be fetched \(not_found\)"):
        list(discover([f"{address}/none.csv"], embedded_settings))


def test_batches_keep_their_members_and_fill_up(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_SOURCES", 7)
    sources = [Source(f"https://example.org/{number}.mp4", title=str(number)) for number in range(40)]
    first = open_batches(lake, iter(sources[:23]), 5)
    assert [batch.split("_")[1] for batch in first] == [f"{n:06d}" for n in range(5)]
    again = open_batches(lake, [*sources[10:23], *sources[10:], replace(sources[0], title="new")], 5)
    assert len(again) == 5 + 4 - 1  # 17 new ones; the batch of 5 to 9 is not among these
    rows = lake.rows("select batch, source_uri, title from videos.sources")
    assert sorted(row["title"] for row in rows) == sorted(str(number) for number in range(40))
    sizes = lake.rows("select batch, count(*) as size from videos.sources group by batch order by batch")
    assert [row["size"] for row in sizes] == [5, 5, 5, 5, 3, 5, 5, 5, 2]
    assert open_batches(lake, iter(sources), 5) == sorted({row["batch"] for row in rows})


def test_batches_are_opened_while_sources_come(embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither discovery nor assignment holds all sources."""
    monkeypatch.setattr(module, "_CHUNK_SOURCES", 10)
    lake, taken = Lake(embedded_settings), []

    def endless() -> Iterator[Source]:
        for number in range(100):
            taken.append(number)
            if number == 50:
                assert lake.value("select count(*) from videos.sources") >= 40
            yield Source(f"/{number}.mp4")

    open_batches(lake, endless(), 4)
    assert lake.value("select count(*) from videos.sources") == len(taken) == 100
    lake.close()
