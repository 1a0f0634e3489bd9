"""Data readers: what they return, and what they say about damaged or unfitting data."""

import gzip
import shutil
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from compiler.errors import DataError, UsageError
from sim import datasets
from sim.datasets import check_spec, choose_evenly, load_dataset

RNG = np.random.default_rng(3)


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    images = RNG.integers(0, 256, (12, 5, 7), dtype=np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 3
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return tmp_path, images, labels


@pytest.fixture
def image_folder(tmp_path):
    pixels = {}
    for part in ("train", "test"):
        for name, suffix in (("cat", "png"), ("bird", "webp")):
            folder = tmp_path / "pictures" / part / name
            folder.mkdir(parents=True)
            for number in range(3):
                image = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
                path = folder / f"{number}.{suffix}"
                Image.fromarray(image).save(path, lossless=True)
                pixels[part, name, number] = image
    return tmp_path / "pictures", pixels


def packed(folder):
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(folder.rglob("*.*")):
            out.write(path, path.relative_to(folder))
    return archive


def test_digits_split_is_fixed_and_disjoint():
    test = load_dataset("digits", (1, 8, 8))
    train = load_dataset("digits", (1, 8, 8), part="train")
    assert (len(test), len(train)) == (599, 1198)
    assert test.images_nchw.dtype == np.float32 and test.labels.dtype == np.int64
    assert test.images_nchw.min() == 0 and test.images_nchw.max() == 1
    held_out = {image.tobytes() for image in test.images_nchw}
    assert not held_out & {image.tobytes() for image in train.images_nchw}
    assert list(test.labels[:5]) == [2, 5, 8, 1, 4]
    with pytest.raises(ValueError):
        test.images_nchw[0, 0, 0, 0] = 1


def test_samples_are_even_seeded_and_in_order():
    few = load_dataset("digits", samples=43, seed=5)
    counts = np.bincount(few.labels, minlength=10)
    assert counts.sum() == 43 and set(counts) == {4, 5}
    assert np.all(np.diff(few.index_n) > 0)
    whole = load_dataset("digits")
    np.testing.assert_array_equal(few.images_nchw, whole.images_nchw[few.index_n])
    np.testing.assert_array_equal(few.index_n, load_dataset("digits", samples=43, seed=5).index_n)
    assert list(few.index_n) != list(load_dataset("digits", samples=43, seed=6).index_n)
    assert whole.fingerprint != few.fingerprint == load_dataset("digits", None, 43, 5).fingerprint
    assert whole.fingerprint_of_set != few.fingerprint_of_set


def test_images_for_a_network_of_vectors_are_flattened():
    images = load_dataset("digits", (1, 8, 8), 20)
    vectors = load_dataset("digits", (64, 1, 1), 20)
    flat = images.images_nchw.reshape(20, 64, 1, 1)
    np.testing.assert_array_equal(vectors.images_nchw, flat)
    with pytest.raises(DataError, match="65"):
        load_dataset("digits", (65, 1, 1), 20)


def test_the_order_of_the_images_is_no_part_of_the_set() -> None:
    whole = load_dataset("digits", None, 43, 5)
    order = np.random.default_rng(0).permutation(len(whole))
    shuffled = replace(whole, images_nchw=whole.images_nchw[order], labels=whole.labels[order])
    assert shuffled.fingerprint != whole.fingerprint
    assert shuffled.fingerprint_of_set == whole.fingerprint_of_set
    mislabelled = replace(whole, labels=whole.labels[order])
    assert mislabelled.fingerprint_of_set != whole.fingerprint_of_set


def test_samples_from_unequal_classes():
    labels = np.array([0] * 10 + [1] * 2 + [2] * 10)
    assert list(np.bincount(labels[choose_evenly(labels, 12, 0)])) == [5, 2, 5]
    assert len(choose_evenly(labels, 22, 0)) == 22
    for samples in (0, 23):
        with pytest.raises(DataError, match="22 images"):
            choose_evenly(labels, samples, 0)


def test_idx_files_packed_or_not(idx_folder):
    folder, images, labels = idx_folder
    data = load_dataset(f"idx:{folder}", (1, 5, 7))
    np.testing.assert_array_equal(data.images_nchw[:, 0], images.astype(np.float32) / 255)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.class_names == ("0", "1", "2")


def test_idx_files_with_channels_last(idx_folder):
    folder, _, _ = idx_folder
    images = RNG.integers(0, 256, (12, 5, 7, 3), dtype=np.uint8)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    data = load_dataset(f"idx:{folder}", (3, 5, 7))
    np.testing.assert_array_equal(data.images_nchw[2, 1] * 255, images[2, :, :, 1])


def test_damaged_idx_files_are_named(idx_folder):
    folder, images, _ = idx_folder
    packed_images = folder / "t10k-images-idx3-ubyte.gz"
    whole = packed_images.read_bytes()
    for damage in (
        whole[: len(whole) // 2],
        b"no gzip at all",
        gzip.compress(idx_bytes(images)[:-1]),
        gzip.compress(b"\0\0\x0d\x03" + idx_bytes(images)[4:]),
        gzip.compress(b"\0\0"),
    ):
        packed_images.write_bytes(damage)
        with pytest.raises(DataError, match="t10k-images") as caught:
            load_dataset(f"idx:{folder}")
        assert caught.value.problems[0].remedy
    packed_images.unlink()
    with pytest.raises(DataError, match="nothing there"):
        load_dataset(f"idx:{folder}")


def test_wrong_size_channels_and_labels_are_named(idx_folder):
    folder, _, _ = idx_folder
    with pytest.raises(DataError, match=r"1 channel.* of 5 x 7 .*3 channel.* of 32 x 32"):
        load_dataset(f"idx:{folder}", (3, 32, 32))
    with pytest.raises(DataError, match="labels 0 to 2; allowed: 0 to 1"):
        load_dataset(f"idx:{folder}", classes=2)


@pytest.mark.parametrize("zipped", [False, True])
def test_image_folder_prefers_the_test_part(image_folder, zipped):
    folder, pixels = image_folder
    data = load_dataset(f"imagefolder:{packed(folder) if zipped else folder}", (3, 4, 6))
    assert data.class_names == ("bird", "cat")
    assert list(data.labels) == [0, 0, 0, 1, 1, 1]
    for place, (name, number) in enumerate((n, i) for n in ("bird", "cat") for i in range(3)):
        expected = pixels["test", name, number].transpose(2, 0, 1) / np.float32(255)
        np.testing.assert_array_equal(data.images_nchw[place], expected)
    train = load_dataset(f"imagefolder:{folder}", part="train")
    np.testing.assert_array_equal(
        train.images_nchw[0], pixels["train", "bird", 0].transpose(2, 0, 1) / np.float32(255)
    )


def write_images(root, *classes):
    for name in classes:
        (root / name).mkdir(parents=True)
        Image.fromarray(RNG.integers(0, 256, (4, 6), dtype=np.uint8)).save(root / name / "1.png")


@pytest.mark.parametrize("zipped", [False, True])
def test_classes_have_the_same_number_in_every_part(tmp_path, zipped):
    folder = tmp_path / "pictures"
    write_images(folder / "train", "b", "c", "d")
    write_images(folder / "test", "a", "b", "d")
    spec = f"imagefolder:{packed(folder) if zipped else folder}"
    for part, labels in (("train", [0, 1, 2]), ("test", [0, 2, 3])):
        data = load_dataset(spec, part=part)
        assert data.class_names == ("b", "c", "d", "a")
        assert sorted(data.labels) == labels
        names = [data.class_names[label] for label in data.labels]
        assert names == [name for name in "abcd" if (folder / part / name).exists()]


@pytest.mark.parametrize("beside", ["train", "training"])
def test_the_folder_of_a_part_is_numbered_as_the_training_part_beside_it(
    tmp_path, monkeypatch, beside
):
    write_images(tmp_path / "val", "a", "c")
    assert list(load_dataset(f"imagefolder:{tmp_path / 'val'}").labels) == [0, 1]
    write_images(tmp_path / beside, "a", "b", "c")
    (tmp_path / beside / "notes").mkdir()
    (tmp_path / beside / "b2.png").touch()
    data = load_dataset(f"imagefolder:{tmp_path / 'val'}")
    assert data.class_names == ("a", "b", "c") and list(data.labels) == [0, 2]
    monkeypatch.chdir(tmp_path / "val")
    assert list(load_dataset("imagefolder:.").labels) == [0, 2]
    write_images(tmp_path / "others", "a", "c")
    assert list(load_dataset(f"imagefolder:{tmp_path / 'others'}").labels) == [0, 1]


def test_image_folder_without_parts(image_folder):
    folder, _ = image_folder
    assert len(load_dataset(f"imagefolder:{folder / 'train'}")) == 6


@pytest.mark.parametrize("zipped", [False, True])
def test_a_part_that_lacks_a_class_numbers_the_others_alike(image_folder, zipped):
    folder, _ = image_folder
    shutil.rmtree(folder / "test" / "bird")
    given = f"imagefolder:{packed(folder) if zipped else folder}"
    data = load_dataset(given, (3, 4, 6), classes=2)
    assert data.class_names == ("bird", "cat") and set(data.labels) == {1}
    assert set(load_dataset(given, part="train").labels) == {0, 1}


def test_image_folder_problems_are_all_listed(image_folder):
    folder, _ = image_folder
    (folder / "test" / "cat" / "1.png").write_bytes(b"broken")
    Image.new("L", (9, 9)).save(folder / "test" / "cat" / "2.png")
    with pytest.raises(DataError) as caught:
        load_dataset(f"imagefolder:{folder}")
    assert [problem.layer for problem in caught.value.problems] == [
        "test/cat/1.png",
        "test/cat/2.png",
    ]
    assert caught.value.problems[0].found == "cannot identify image file"
    archive = packed(folder)
    archive.write_bytes(archive.read_bytes()[:400])
    for path in (archive, folder / "missing"):
        with pytest.raises(DataError, match="zip"):
            load_dataset(f"imagefolder:{path}")


def test_only_a_training_part_is_no_test_part(image_folder):
    folder, _ = image_folder
    for path in (folder / "test").rglob("*.*"):
        path.unlink()
    with pytest.raises(DataError, match="no images found"):
        load_dataset(f"imagefolder:{folder}")


def test_grey_and_sixteen_bit_images(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(tmp_path / "a" / "1.png")
    data = load_dataset(f"imagefolder:{tmp_path}", (1, 1, 2))
    np.testing.assert_array_equal(data.images_nchw, [[[[0.0, 1.0]]]])


def test_npz(tmp_path):
    images = RNG.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    file = tmp_path / "set.npz"
    np.savez(file, x_test=images, y_test=np.arange(6)[:, None] % 2, class_names=["no", "yes"])
    data = load_dataset(f"npz:{file}", (3, 4, 5))
    np.testing.assert_array_equal(data.images_nchw, images.transpose(0, 3, 1, 2) / np.float32(255))
    assert data.class_names == ("no", "yes") and list(data.labels) == [0, 1, 0, 1, 0, 1]
    np.savez(file, images=images[..., 0] / 255, labels=np.zeros(6, np.int64))
    assert load_dataset(f"npz:{file}").images_nchw.shape == (6, 1, 4, 5)


@pytest.mark.parametrize(
    "arrays,said",
    [
        ({"images": np.ones((2, 4, 4)) * 3, "labels": np.zeros(2, int)}, "float64 from 3 to 3"),
        ({"images": np.ones((2, 4, 4), np.int16), "labels": np.zeros(2, int)}, "int16 images"),
        ({"images": np.ones((2, 4, 4)), "labels": np.zeros(3, int)}, "for 2 images"),
        ({"images": np.ones((2, 4, 4)), "labels": np.zeros(2)}, "labels float64"),
        ({"images": np.ones((2, 4, 4))}, "one of y_test"),
        ({"images": np.array([{}, {}]), "labels": np.zeros(2, int)}, "allow_pickle"),
        ({"images": np.ones((0, 4, 4), np.uint8), "labels": np.zeros(0, int)}, "0 images"),
        ({"images": np.uint8(3), "labels": np.zeros(2, int)}, r"shape \(\); allowed: \(N, H, W\)"),
        ({"images": np.ones((2, 4)), "labels": np.zeros(2, int)}, r"shape \(2, 4\)"),
        ({"images": np.ones((2, 4, 4)), "labels": np.int64(0)}, r"labels int64 \(\)"),
        (
            {"images": np.ones((2, 4, 4)), "labels": np.zeros(2, int), "class_names": "cat"},
            r"class_names: found an array of shape \(\)",
        ),
        (
            {
                "images": np.arange(2, dtype=np.uint8).repeat(16).reshape(2, 4, 4),
                "labels": np.zeros(2, int),
            },
            "without a value above 1.*floats",
        ),
    ],
)
def test_npz_refusals(tmp_path, arrays, said):
    file = tmp_path / "set.npz"
    np.savez(file, **arrays)
    with pytest.raises(DataError, match=said):
        load_dataset(f"npz:{file}")


@pytest.mark.parametrize("brightest", [0, 2, 255])
def test_dark_images_are_no_images_of_two_values(tmp_path, brightest):
    images = np.ones((3, 4, 4), np.uint8) * (brightest > 0)
    images[2, 1, 1] = brightest
    np.savez(tmp_path / "set.npz", images=images, labels=np.zeros(3, np.int64))
    data = load_dataset(f"npz:{tmp_path / 'set.npz'}")
    np.testing.assert_array_equal(data.images_nchw[:, 0], images.astype(np.float32) / 255)


def test_npz_that_is_none(tmp_path):
    file = tmp_path / "set.npz"
    with pytest.raises(DataError, match="nothing there"):
        load_dataset(f"npz:{file}")
    np.savez(file, images=np.ones((20, 4, 4)), labels=np.zeros(20, int))
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(f"npz:{file}")


def write_array(file):
    np.save(file.with_suffix(".npy"), np.ones((3, 4, 4)))
    file.with_suffix(".npy").rename(file)


def write_archive_cut_off(file):
    np.savez(file, images=np.ones((20, 4, 4)), labels=np.zeros(20, int))
    file.write_bytes(file.read_bytes()[:900])


@pytest.mark.parametrize(
    "write,said",
    [
        (write_array, "one array without labels.*allowed: an archive.*savez"),
        (lambda file: file.write_text("hello"), "begins with bytes 68 65"),
        (lambda file: file.mkdir(), "a folder.*savez"),
        (lambda file: file.write_bytes(b""), r"\(none\)"),
        (write_archive_cut_off, "cut off"),
    ],
    ids=["array", "text", "folder", "empty", "cut off"],
)
def test_a_file_that_is_no_archive_is_found_before_a_long_run(tmp_path, write, said):
    file = tmp_path / "set.npz"
    write(file)
    for look in (check_spec, load_dataset):
        with pytest.raises(DataError, match=said) as caught:
            look(f"npz:{file}")
        assert ("cut off" in str(caught.value)) == (said == "cut off")


def test_arrays_of_objects_are_not_said_to_be_cut_off(tmp_path):
    file = tmp_path / "set.npz"
    np.savez(file, images=np.array([{}, {}]), labels=np.zeros(2, int))
    with pytest.raises(DataError, match=r"images: found .*plain numbers.*savez") as caught:
        load_dataset(f"npz:{file}")
    assert "cut off" not in str(caught.value)


def test_missing_presets_say_how_to_get_the_images(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path / "absent")
    monkeypatch.delenv(datasets.DATA_FOLDER_VARIABLE, raising=False)
    with pytest.raises(DataError, match=r"apt-get install dataset-fashion-mnist.*idx:DIR"):
        load_dataset("fashion-mnist")
    with pytest.raises(DataError, match=r"PRIVATE_SNN_DATA.*imagefolder:PATH"):
        load_dataset("cifar10")


def test_cifar10_is_found_in_the_data_folder(monkeypatch, image_folder):
    folder, _ = image_folder
    packed(folder).rename(folder.parent / "cifar10.zip")
    monkeypatch.setenv(datasets.DATA_FOLDER_VARIABLE, str(folder.parent))
    assert len(load_dataset("cifar10")) == 6


def test_fashion_mnist_in_the_data_folder_has_class_names(monkeypatch, tmp_path):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    images = RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8)
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(10, dtype=np.uint8)))
    monkeypatch.setenv(datasets.DATA_FOLDER_VARIABLE, str(tmp_path))
    data = load_dataset("fashion-mnist", (1, 28, 28))
    assert len(data) == 10 and data.class_names[9] == "Ankle boot"


@pytest.mark.parametrize("spec", ["mnist", "idx:", "zip:x", ""])
def test_unknown_specifications(spec):
    with pytest.raises(UsageError, match="imagefolder:DIR-or-ZIP"):
        load_dataset(spec)
