"""Splits of images, their binarisation, and the embedded digits."""

from collections import Counter

import numpy as np
import pytest
import torch

from vaelib.data import digits
from vaelib.data.images import ImageData, ImageSplit, Pixels, binarise
from vaelib.data.texts import Slicing
from vaelib.errors import VaelibError


def ramp(n: int = 40, p: int = 256) -> torch.Tensor:
    """Images whose pixels are 0 to 255, or as many of those as fit."""
    return torch.arange(p).remainder(256).to(torch.uint8).expand(n, -1).contiguous()


@pytest.fixture
def split() -> ImageSplit:
    return ImageSplit(ramp(), torch.arange(40), grey=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_batch_is_float_in_the_unit_interval(split: ImageSplit) -> None:
    batch = split.gather(torch.tensor([3, 0]))
    assert batch.dtype == torch.float32
    assert batch.shape == (2, 256)
    assert torch.equal(batch[0] * 255, torch.arange(256.0))
    assert torch.equal(split.mixed(torch.tensor([3, 0])), batch)
    assert split.predicted.tolist() == [256] * 40


@pytest.mark.parametrize("pixels", [torch.zeros(3, 4), torch.zeros(3, 4, 4).byte(), ramp(0)])
def test_pixels_of_another_kind_are_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(VaelibError, match="give uint8 of shape"):
        ImageSplit(pixels)


def test_labels_of_another_number_are_refused() -> None:
    with pytest.raises(VaelibError, match=r"labels have shape \[3\] for 40 images"):
        ImageSplit(ramp(), torch.arange(3))


def test_grey_pixels_are_drawn_with_their_probability() -> None:
    split = ImageSplit(ramp(4000), grey=True)
    batch = split.gather(torch.arange(4000))
    drawn = split.draw(batch, seeded())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    spread = (batch[0] * (1 - batch[0]) / 4000).sqrt()
    assert ((drawn.mean(0) - batch[0]).abs() <= 5 * spread).all()  # certain pixels stay exactly
    assert torch.equal(drawn, split.draw(batch, seeded()))
    assert not torch.equal(drawn, split.draw(batch, seeded(1)))


def test_binary_images_are_not_drawn() -> None:
    split = ImageSplit(ramp(), grey=False)
    batch = split.gather(torch.arange(3))
    assert split.draw(batch, seeded()) is batch


def test_binarising_draws_once_and_for_all() -> None:
    split = ImageSplit(ramp(4000), torch.arange(4000), grey=True)
    fixed = split.binarised(5)
    assert not fixed.grey
    assert set(fixed.pixels.unique().tolist()) == {0, 255}
    shares = fixed.gather(torch.arange(4000)).mean(0)
    wanted = torch.arange(256) / 255
    assert ((shares - wanted).abs() <= 5 * (wanted * (1 - wanted) / 4000).sqrt()).all()
    assert torch.equal(fixed.pixels, split.binarised(5).pixels)
    assert not torch.equal(fixed.pixels, split.binarised(6).pixels)
    assert torch.equal(fixed.pixels, fixed.binarised(7).pixels)
    assert torch.equal(fixed.labels, split.labels)


def test_batches_are_consecutive(split: ImageSplit) -> None:
    assert [b.tolist() for b in split.buckets(15)] == [
        list(range(15)),
        list(range(15, 30)),
        list(range(30, 40)),
    ]
    with pytest.raises(VaelibError, match="batch_size is 0"):
        split.buckets(0)


def test_to_moves_pixels_and_labels(split: ImageSplit) -> None:
    moved = split.to("meta")
    assert moved.pixels.device.type == moved.labels.device.type == "meta"
    assert moved.predicted.device.type == "cpu"
    assert moved.gather(torch.tensor([0])).shape == (1, 256)


def test_pixels_stand_in_for_words() -> None:
    pixels = Pixels(4)
    assert len(pixels) == 4
    assert pixels.decode(torch.tensor([0, 1, 1, 0])) == ["0", "1", "1", "0"]
    assert pixels.decode([1.0, 0.0]) == ["1", "0"]
    assert pixels.words == ("0", "1")
    with pytest.raises(VaelibError, match=r"a pixel is 0\.5"):
        pixels.decode([0.5])


@pytest.fixture
def data() -> ImageData:
    """Images that can be told apart by their first pixels."""
    pixels = torch.randint(0, 256, (60, 9), generator=seeded(), dtype=torch.uint8)
    splits = [ImageSplit(p, torch.arange(20), grey=True) for p in pixels.split(20)]
    return ImageData(*splits, label_names=("one",), checksums={"a": "b"})


def test_training_images_stay_grey_or_are_fixed(data: ImageData) -> None:
    dynamic, fixed = binarise(data, "dynamic"), binarise(data, "fixed")
    assert dynamic.train.grey
    assert not fixed.train.grey
    assert torch.equal(dynamic.train.pixels, data.train.pixels)
    for name in ("valid", "test"):
        one, other = getattr(dynamic, name), getattr(fixed, name)
        assert torch.equal(one.pixels, other.pixels)
        assert not one.grey
    same = ImageData(data.train, data.train, data.train)
    drawn = binarise(same, "fixed")
    assert not torch.equal(drawn.train.pixels, drawn.valid.pixels)
    assert not torch.equal(drawn.valid.pixels, drawn.test.pixels)
    assert (fixed.label_names, fixed.checksums) == (("one",), {"a": "b"})
    with pytest.raises(VaelibError, match="did you mean 'dynamic'"):
        binarise(data, "dynamc")


def test_a_slice_is_a_subset_in_order_and_lies_inside_a_larger_one(data: ImageData) -> None:
    small, large = (data.sliced(Slicing(n, None, 3)) for n in (4, 11))
    assert [len(small.train), len(small.valid), len(small.test)] == [4, 20, 3]
    kept = small.train.labels.tolist()
    assert kept == sorted(kept)
    assert set(kept) < set(large.train.labels.tolist())
    assert torch.equal(small.train.pixels, data.train.pixels[small.train.labels])
    assert small.train.grey
    assert len(small.vocabulary) == 9


# ---- digits ----------------------------------------------------------------------------------


def test_the_digits_are_scikit_learns_each_once() -> None:
    from sklearn.datasets import load_digits

    loaded = digits.images()
    assert [len(s) for s in (loaded.train, loaded.valid, loaded.test)] == [1297, 200, 300]
    whole = load_digits()
    grey = digits.images().train
    rows = np.rint(whole.images.reshape(-1, 64) * 255 / 16).astype(int)
    known = Counter((*row.tolist(), int(y)) for row, y in zip(rows, whole.target, strict=True))
    mine = Counter((*row.tolist(), int(y)) for row, y in zip(grey.pixels, grey.labels, strict=True))
    assert mine <= known
    assert loaded.label_names == tuple("0123456789")
    for split in (loaded.train, loaded.valid, loaded.test):
        assert set(split.labels.tolist()) == set(range(10))


def test_the_splits_of_the_digits_are_disjoint_and_complete() -> None:
    order = digits.seeded_order(sum(digits.SIZES), digits.SPLIT_SEED)
    assert sorted(order) == list(range(1797))
    fixed = digits.images("fixed")
    _, labels = digits._read()
    found = torch.cat([fixed.train.labels, fixed.valid.labels, fixed.test.labels])
    assert found.tolist() == labels[order].tolist()


def test_digits_are_binarised_dynamically_or_once() -> None:
    dynamic, fixed = digits.images("dynamic"), digits.images("fixed")
    assert dynamic.train.grey
    assert not fixed.train.grey
    assert torch.equal(dynamic.test.pixels, fixed.test.pixels)
    assert dynamic.checksums == fixed.checksums
    known = "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"
    assert dynamic.checksums == {"digits": known}


def test_digits_stand_upright() -> None:
    """Of a seven most ink is above, of a six below, and a one is higher than wide."""
    split = digits.images().train
    mean = {d: split.pixels[split.labels == d].float().mean(0).view(8, 8) for d in (1, 6, 7)}
    assert mean[7][:4].sum() > mean[7][4:].sum()
    assert mean[6][:4].sum() < mean[6][4:].sum()
    assert mean[1].sum(0).max() > mean[1].sum(1).max()
