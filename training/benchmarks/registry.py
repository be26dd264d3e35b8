"""The public benchmarks of the paper by their standard names, and how to find them in a folder on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from training.benchmarks import action, retrieval
from training.benchmarks.benchmark import Benchmark
from training.benchmarks.folder import DataFolder
from training.benchmarks.items import Items

_NUM_NAMED = 5


@dataclass(frozen=True)
class Format:
    """One way the annotations come: for each role the file names that will do, per split, and who reads them."""

    read: Callable[[action.Files, str], Items]
    test: Mapping[str, tuple[str, ...]]
    train: Mapping[str, tuple[str, ...]]

    def files(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """Role to patterns."""
        return self.train if split == "train" else self.test


@dataclass(frozen=True)
class Standard:
    """One public benchmark."""

    name: str
    title: str
    task: str  # action or retrieval
    formats: tuple[Format, ...]
    num_items: int  # of the official test split, for a note when the copy at hand has another number
    max_seconds: float | None = None


def _kinetics(name: str, title: str, num_items: int) -> Standard:
    classes = ("classes.txt", f"*{name}*classes*.txt", "labels.txt", "label_map*.txt", "*labels*.csv", "*classes*.json",
               f"{name}_classes*", "*categories*.txt")  # fmt: skip
    formats = (
        Format(
            action.kinetics_by_number,
            {"list": ("val.csv", "val.txt", f"{name}_val.csv", "*val_list*.txt"), "classes": classes},
            {"list": ("train.csv", "train.txt", f"{name}_train.csv", "*train_list*.txt"), "classes": classes},
        ),
        Format(
            action.kinetics_official,
            {"list": ("val.csv", "validate.csv", f"{name}_val.csv")},
            {"list": ("train.csv", f"{name}_train.csv")},
        ),
    )
    return Standard(name, title, "action", formats, num_items)


_SSV2_CLASSES = ("something-something-v2-labels.json", "labels.json")
_UCF_CLASSES, _HMDB_LISTS = {"classes": ("classInd.txt",)}, {"list": ("*_test_split1.txt",)}

STANDARDS = {
    standard.name: standard
    for standard in (
        # Numbers of items: the papers of the sets; Kinetics shrinks as videos vanish.
        _kinetics("k400", "Kinetics-400 val", 19881),
        _kinetics("k600", "Kinetics-600 val", 29780),
        _kinetics("k700", "Kinetics-700 val", 34824),
        Standard(
            "ssv2", "Something-Something V2 validation", "action",
            (Format(
                action.something_something,
                {"list": ("something-something-v2-validation.json", "validation.json"), "classes": _SSV2_CLASSES},
                {"list": ("something-something-v2-train.json", "train.json"), "classes": _SSV2_CLASSES},
            ),),
            24777,
        ),
        Standard(
            "ucf101", "UCF101 split 1", "action",
            (Format(action.ucf101, {"list": ("testlist01.txt",), **_UCF_CLASSES}, {"list": ("trainlist01.txt",), **_UCF_CLASSES}),),
            3783,
        ),
        Standard("hmdb51", "HMDB51 split 1", "action", (Format(action.hmdb51, _HMDB_LISTS, _HMDB_LISTS),), 1530),
        Standard(
            "msrvtt", "MSR-VTT 1K-A test", "retrieval",
            (
                Format(
                    retrieval.captions,
                    {"list": ("msrvtt_test1k.json", "msrvtt_ret_test1k.json", "msrvtt_test_1k.json")},
                    {"list": ("msrvtt_ret_train9k.json", "msrvtt_train_9k.json", "msrvtt_ret_train7k.json", "msrvtt_train_7k.json")},
                ),
                Format(
                    retrieval.jsfusion, {"list": ("MSRVTT_JSFUSION_test.csv",)}, {"list": ("MSRVTT_JSFUSION_train.csv",)}
                ),
                Format(
                    retrieval.msrvtt_with_sentences,
                    {"list": ("MSRVTT_test.csv",), "sentences": ("MSRVTT_data.json",)},
                    {"list": ("MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv"), "sentences": ("MSRVTT_data.json",)},
                ),
            ),
            1000,
        ),
        Standard(
            "lsmdc", "LSMDC 1K test", "retrieval",
            (
                Format(retrieval.captions, {"list": ("lsmdc_ret_test_1000.json", "lsmdc_ret_test.json")}, {"list": ("lsmdc_ret_train.json",)}),
                Format(retrieval.lsmdc, {"list": ("LSMDC16_challenge_1000_publictect.csv",)}, {"list": ("LSMDC16_annos_training.csv",)}),
            ),
            1000,
        ),
        Standard(
            "didemo", "DiDeMo test, paragraphs, the first 30 s", "retrieval",
            (Format(retrieval.paragraphs, {"list": ("didemo_ret_test.json", "test_data.json")}, {"list": ("didemo_ret_train.json", "train_data.json")}),),
            1004,
            max_seconds=30.0,
        ),
        Standard(
            "msvd", "MSVD test, many captions a video", "retrieval",
            (Format(retrieval.captions, {"list": ("msvd_ret_test.json",)}, {"list": ("msvd_ret_train.json",)}),),
            670,
        ),
        Standard(
            "anet", "ActivityNet Captions val1, paragraphs", "retrieval",
            (
                Format(retrieval.paragraphs, {"list": ("anet_ret_val.json", "anet_ret_val_1.json")}, {"list": ("anet_ret_train.json",)}),
                Format(retrieval.activitynet, {"list": ("val_1.json",)}, {"list": ("train.json",)}),
            ),
            4917,
        ),
    )
}  # fmt: skip


def load_standard(name: str, folder: str | Path, split: str = "test", allow_missing: bool = False) -> Benchmark:
    """A public benchmark from a folder that holds its annotation files and videos, in any subfolders.

    Args:
        split: test (what is reported; of Kinetics, SSv2 and ActivityNet the validation set) or train.
        allow_missing: leave out items whose video is missing, and say so in the note.

    Raises: ValueError saying which annotation files or videos are missing and what is expected where.
    """
    standard, data, items, files = read_annotations(name, folder, split)
    videos = [data.video(video) for video in items.videos]
    missing = [video for video, file in zip(items.videos, videos, strict=True) if file is None]
    if missing and (not allow_missing or len(missing) == len(videos)):
        raise ValueError(_told_missing(name, data, missing, len(videos)))
    kept = [i for i, file in enumerate(videos) if file is not None]
    return Benchmark(
        name,
        standard.task,
        tuple(file for file in videos if file is not None),
        items.classes,
        tuple(items.labels[i] for i in kept) if items.labels else (),
        tuple(items.captions[i] for i in kept) if items.captions else (),
        _note(standard, split, len(kept), missing),
        max_seconds=standard.max_seconds,
        files=tuple(files),
    )


def read_annotations(
    name: str, folder: str | Path, split: str = "test"
) -> tuple[Standard, DataFolder, Items, list[Path]]:
    """What the annotations of a split say, whether or not the videos are there.

    Raises: ValueError saying which annotation files are missing or wrong.
    """
    if name not in STANDARDS:
        raise ValueError(f"benchmark {name!r} is not known; there are {', '.join(STANDARDS)}")
    try:
        data = DataFolder(folder)
        return STANDARDS[name], data, *_read(STANDARDS[name], data, split)
    except ValueError as error:
        raise ValueError(f"benchmark {name}: {error}") from error


def _read(standard: Standard, data: DataFolder, split: str) -> tuple[Items, list[Path]]:
    """Of the first format whose files are all there and can be read."""
    faults = []
    for form in standard.formats:
        files = {role: data.annotations(patterns) for role, patterns in form.files(split).items()}
        if not all(files.values()):
            lacking = [" | ".join(form.files(split)[role][:4]) for role, paths in files.items() if not paths]
            faults += [f"{' and '.join(lacking)} is missing"] if any(files.values()) else []
            continue
        try:
            return form.read(files, split), [path for paths in files.values() for path in paths]
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("; ".join(faults))
    raise ValueError(
        f"no annotations of its {split} split below {data.path}: expected {expected_files(standard, split)}"
    )


def expected_files(standard: Standard, split: str = "test") -> str:
    """The files of each format in words."""
    return ", or ".join(
        " with ".join(" | ".join(patterns[:4]) for patterns in form.files(split).values()) for form in standard.formats
    )


def _told_missing(name: str, data: DataFolder, missing: list[str], num_items: int) -> str:
    first = ", ".join(missing[:_NUM_NAMED])
    return (
        f"benchmark {name}: {len(missing)} of {num_items} videos are missing below {data.path} ({data.num_videos} video files "
        f"there), the first: {first}; expected at these paths, or by these names in any subfolder. "
        "--allow-missing evaluates on the rest"
    )


def _note(standard: Standard, split: str, num_kept: int, missing: list[str]) -> str:
    notes = []
    if missing:
        notes.append(f"{len(missing)} videos are missing, so the numbers compare with no other copy")
    if split == "test" and num_kept + len(missing) != standard.num_items:
        notes.append(f"this copy lists {num_kept + len(missing)} items, the official split {standard.num_items}")
    return f"{standard.name}: {'; '.join(notes)}" if notes else ""


def told_registry() -> str:
    """One line a benchmark: name, task, size and what its folder must hold."""
    lines = [f"{'name':<8} {'task':<10} {'items':>6}  annotation files in the folder, beside the videos"]
    for standard in STANDARDS.values():
        lines.append(
            f"{standard.name:<8} {standard.task:<10} {standard.num_items:>6}  {standard.title}: {expected_files(standard)}"
        )
    return "\n".join(lines)
