"""CIFAR's binary archives and TinyImageNet's folders, made small in the published layouts."""

import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from compiler.errors import DataError
from sim import cifar, datasets
from sim.cifar import CIFAR10, CIFAR100, read_cifar
from sim.datasets import load_dataset

RNG = np.random.default_rng(11)
FINE = [f"fine_{number:02d}" for number in range(100)]
PHOTOGRAPHS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
               "truck"]  # fmt: skip
GARBAGE = b"these are no pixels"


def records(labels):
    """Rows of label bytes and random pixels, and the pixels as (N, 3, 32, 32)."""
    pixels = RNG.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return np.concatenate([np.asarray(labels, np.uint8), pixels], 1).tobytes(), pixels


@pytest.fixture
def cifar100(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    pixels = {}
    for part, count in (("test", 5), ("train", 7)):
        fine = np.arange(count) * 16 + 1
        content, pixels[part] = records(np.stack([fine // 5, fine], 1))
        (folder / f"{part}.bin").write_bytes(content)
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(FINE[:20]))
    return folder, pixels


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        number = int(name[-1]) if name[-1].isdigit() else 9
        (folder / f"{name}.bin").write_bytes(records([[number], [0]])[0])
    (folder / "batches.meta.txt").write_text("\n".join(PHOTOGRAPHS) + "\n\n")
    return folder


def archived(folder):
    archive = folder.with_name(f"{folder.name}.tar.gz")
    with tarfile.open(archive, "w:gz") as out:
        out.add(folder, folder.name)
    return archive


def as_published(monkeypatch, archive, form):
    """The format, with the sum of a small archive in place of the published one's."""
    from hashlib import md5

    small = replace(form, md5=md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(datasets, form.title.replace("-", ""), small)
    return small


@pytest.mark.parametrize("above", [False, True])
def test_cifar100_folder(cifar100, above):
    folder, pixels = cifar100
    spec = f"cifar100:{folder.parent if above else folder}"
    for part, count in (("test", 5), ("train", 7)):
        data = load_dataset(spec, (3, 32, 32), part=part)
        assert list(data.labels) == [16 * number + 1 for number in range(count)]
        assert data.class_names == tuple(FINE)
        expected = pixels[part].reshape(-1, 3, 32, 32).astype(np.float32) / 255
        np.testing.assert_array_equal(data.images_nchw, expected)


def test_cifar100_archive_is_the_same_as_its_folder(cifar100, monkeypatch):
    folder, _ = cifar100
    archive = archived(folder)
    as_published(monkeypatch, archive, CIFAR100)
    packed = load_dataset(f"cifar100:{archive}", samples=3)
    assert packed.fingerprint == load_dataset(f"cifar100:{folder}", samples=3).fingerprint


def test_an_archive_that_is_not_the_published_one_is_refused(cifar100):
    archive = archived(cifar100[0])
    with pytest.raises(DataError, match=CIFAR100.md5) as caught:
        load_dataset(f"cifar100:{archive}")
    assert [problem.remedy for problem in caught.value.problems] == [
        "fetch it again; images of your own in this layout are read from a folder"
    ]


def test_cifar10_files_are_read_in_their_order(cifar10, monkeypatch):
    data = load_dataset(f"cifar10:{cifar10}", part="train")
    assert list(data.labels) == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert list(data.class_names) == PHOTOGRAPHS
    archive = archived(cifar10)
    as_published(monkeypatch, archive, CIFAR10)
    assert list(load_dataset(f"cifar10:{archive}").labels) == [9, 0]


def test_named_sets_are_found_in_the_data_folder(cifar10, cifar100, tiny, monkeypatch):
    monkeypatch.setenv("PRIVATE_SNN_DATA", str(cifar10.parent))
    assert len(load_dataset("cifar10")) == 2 and len(load_dataset("cifar100")) == 5
    assert len(load_dataset("tinyimagenet")) == 4
    monkeypatch.setenv("PRIVATE_SNN_DATA", str(cifar10.parent / "nowhere"))
    for name in ("cifar10", "cifar100", "tinyimagenet"):
        with pytest.raises(DataError, match="PRIVATE_SNN_DATA") as caught:
            load_dataset(name)
        assert f"{name}:PATH" in caught.value.problems[0].remedy


def test_cifar100_in_one_folder_a_class(tmp_path):
    for name in FINE:
        for part in ("train", "test"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), (len(part), 2, 3)).save(folder / "1.png")
    data = load_dataset(f"imagefolder:{tmp_path}", (3, 32, 32), classes=100)
    assert data.class_names == tuple(FINE) and list(data.labels) == list(range(100))


def test_all_that_is_wrong_with_a_cifar_folder_is_said_at_once(cifar100):
    folder, _ = cifar100
    (folder / "fine_label_names.txt").write_text("one two two")
    (folder / "test.bin").write_bytes(records([[20, 100], [3, 4]])[0][:-1] + b"xy")
    with pytest.raises(DataError) as caught:
        load_dataset(f"cifar100:{folder}")
    text = str(caught.value)
    for said in ("3 names, 2 of them different", "6,149 bytes", "a label 20 in byte 0",
                 "a label 100 in byte 1", str(folder / "test.bin")):  # fmt: skip
        assert said in text
    for problem in caught.value.problems:
        assert problem.found and problem.allowed and problem.remedy
    (folder / "test.bin").unlink()
    (folder / "fine_label_names.txt").unlink()
    with pytest.raises(DataError) as caught:
        load_dataset(f"cifar100:{folder}")
    assert [problem.found for problem in caught.value.problems] == ["nothing there"] * 2


def test_empty_and_cut_off_files(cifar100, monkeypatch):
    folder, _ = cifar100
    archive = archived(folder)
    (folder / "test.bin").write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes"):
        load_dataset(f"cifar100:{folder}")
    whole = archive.read_bytes()
    for damage in (whole[: len(whole) // 2], GARBAGE, b""):
        archive.write_bytes(damage)
        form = as_published(monkeypatch, archive, CIFAR100)
        with pytest.raises(DataError, match=r"a complete cifar-100-binary\.tar\.gz"):
            read_cifar(archive, "test", form)
    with pytest.raises(DataError, match="nothing there"):
        read_cifar(folder / "nowhere", "test", CIFAR100)


def test_the_pickled_version_is_named_and_not_opened(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("meta", "test", "train"):
        (folder / name).write_bytes(GARBAGE)
    for path in (folder, archived(folder)):
        with pytest.raises(DataError, match="a pickle") as caught:
            load_dataset(f"cifar100:{path}")
        assert "fetch the binary version" in str(caught.value)


def test_sums_are_those_of_the_official_page():
    assert cifar.CIFAR10.md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert cifar.CIFAR100.md5 == "03b5dce01913d631647c71ecec9e9cb8"


SYNSETS = ["n02", "n01", "n03"]  # wnids.txt is not sorted
WORDS = "n01\tcrane, bird\nn02\tcrane\nn03\tgoldfish, Carassius auratus\nn99\tnot used\n"


@pytest.fixture
def tiny(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    for synset in SYNSETS:
        images = root / "train" / synset / "images"
        images.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (64, 64), (int(synset[1:]), 8, 9)).save(
                images / f"{synset}_{number}.JPEG"
            )
        (images.parent / f"{synset}_boxes.txt").write_text(f"{synset}_0.JPEG\t0\t0\t9\t9\n")
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for number, synset in enumerate(("n03", "n01", "n02", "n01")):
        colour = number * 40 if number else (number, number, number)
        image = Image.new("L" if number else "RGB", (64, 64), colour)
        image.save(root / "val" / "images" / f"val_{number}.JPEG", quality=95)
        lines.append(f"val_{number}.JPEG\t{synset}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("\n".join(SYNSETS) + "\n")
    (root / "words.txt").write_text(WORDS)
    (root / "test" / "images").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(root / "test" / "images" / "test_0.JPEG")
    return root


def zipped(folder):
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(folder.rglob("*.*")):
            out.write(path, path.relative_to(folder.parent))
    return archive


def test_tiny_imagenet_parts(tiny):
    test = load_dataset(f"tinyimagenet:{tiny}", (3, 64, 64))
    assert list(test.labels) == [0, 0, 1, 2]
    assert test.class_names == ("crane, bird", "crane", "goldfish")
    np.testing.assert_allclose(test.images_nchw[:, :, 5, 6] * 255, [[40] * 3, [120] * 3, [80] * 3,
                                                                    [0] * 3], atol=3)  # fmt: skip
    train = load_dataset(f"tinyimagenet:{tiny.parent}", part="train")
    assert list(train.labels) == [0, 0, 1, 1, 2, 2]
    red = np.rint(train.images_nchw[:, 0, 0, 0] * 255)
    np.testing.assert_allclose(red, [1, 1, 2, 2, 3, 3], atol=2)


def test_tiny_imagenet_zip_is_the_same_as_its_folder(tiny):
    archive = zipped(tiny)
    for part in ("test", "train"):
        packed = load_dataset(f"tinyimagenet:{archive}", part=part)
        assert packed.fingerprint == load_dataset(f"tinyimagenet:{tiny}", part=part).fingerprint
        assert packed.class_names == ("crane, bird", "crane", "goldfish")


def test_all_that_is_wrong_with_tiny_imagenet_is_said_at_once(tiny):
    (tiny / "val" / "images" / "val_0.JPEG").unlink()
    (tiny / "val" / "images" / "more.JPEG").write_bytes(GARBAGE)
    with (tiny / "val" / "val_annotations.txt").open("a") as file:
        file.write("val_9.JPEG\tn77\t0\t0\t9\t9\nno tabulator here\n")
    with pytest.raises(DataError) as caught:
        load_dataset(f"tinyimagenet:{tiny}")
    text = str(caught.value)
    for said in ("no label for val/images/more.JPEG", "val/images/val_0.JPEG", "n77 in the part",
                 "a line without a tabulator", str(tiny / "val/val_annotations.txt")):  # fmt: skip
        assert said in text
    for file in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
        (tiny / file).unlink()
    with pytest.raises(DataError) as caught:
        load_dataset(f"tinyimagenet:{tiny}")
    assert len(caught.value.problems) == 3


def test_tiny_imagenet_classes_without_names_or_images(tiny):
    (tiny / "wnids.txt").write_text("n01\nn03\nn04\n")
    (tiny / "words.txt").write_text("n01\tcrane\nn03\n")
    with pytest.raises(DataError, match="no names for n03, n04"):
        load_dataset(f"tinyimagenet:{tiny}", part="train")
    (tiny / "words.txt").write_text(WORDS + "n04\tpeacock\n")
    with pytest.raises(DataError) as caught:
        load_dataset(f"tinyimagenet:{tiny}", part="train")
    assert "n02 in the part train" in str(caught.value)
    assert "no images of n04" in str(caught.value)
    (tiny / "wnids.txt").write_text("")
    with pytest.raises(DataError, match="no classes"):
        load_dataset(f"tinyimagenet:{tiny}")


def test_tiny_imagenet_images_that_are_damaged_or_missing(tiny, tmp_path):
    (tiny / "val" / "images" / "val_2.JPEG").write_bytes(GARBAGE)
    with pytest.raises(DataError, match=r"val_2\.JPEG"):
        load_dataset(f"tinyimagenet:{tiny}")
    assert len(load_dataset(f"tinyimagenet:{tiny}", part="train")) == 6
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no such images"):
        load_dataset(f"tinyimagenet:{tmp_path / 'empty'}")
    with pytest.raises(DataError, match="nothing there"):
        load_dataset(f"tinyimagenet:{tmp_path / 'nowhere'}")
    cut = zipped(tiny)
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(DataError, match="archive cannot be read"):
        load_dataset(f"tinyimagenet:{cut}")
