"""Where activations of a frozen prefix lie: by content, in files without a name, up to a size."""

import errno
import gc
import os
import threading
import warnings

import numpy as np
import pytest

from hybridus.store import activations
from hybridus.store.activations import ActivationStore, Rows, most_bytes, scratch_array

WIDTH = 256  # a KiB a row


def keys(*numbers, view=""):
    return [(bytes([number]), view) for number in numbers]


class Encoder:
    """Rows of constants; counts what it encodes."""

    def __init__(self, numbers):
        self.numbers = numbers
        self.encoded = []

    def __call__(self, places):
        for start in range(0, len(places), 2):
            part = [self.numbers[place] for place in places[start : start + 2]]
            self.encoded += part
            yield np.repeat(np.float32(part)[:, np.newaxis], WIDTH, axis=1)


def ask(store, *numbers, fingerprint="a", view="", **options):
    """Values of the rows, one a key, and what had to be encoded for them."""
    encoder = Encoder(numbers)
    rows = store.rows(fingerprint, keys(*numbers, view=view), WIDTH, encoder, **options)
    if rows is None:
        return None, encoder.encoded
    return rows.take(range(len(numbers)))[:, 0].tolist(), encoder.encoded


@pytest.fixture
def on_disk(monkeypatch):
    """Every array, however small, gets a file."""
    monkeypatch.setattr(activations, "_IN_MEMORY", 0)


@pytest.fixture
def room(monkeypatch):
    """Let activations have room for so many rows of float32."""

    def set_room(n_rows):
        monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", repr(n_rows * WIDTH * 4 / 2**30))

    return set_room


class TestContent:
    def test_each_row_is_encoded_once(self):
        store = ActivationStore()
        assert ask(store, 1, 2, 3) == ([1, 2, 3], [1, 2, 3])
        assert ask(store, 3, 1) == ([3, 1], [])
        assert ask(store, 4, 2, 5) == ([4, 2, 5], [4, 5])

    def test_duplicates_are_encoded_once(self):
        assert ask(ActivationStore(), 7, 7, 8, 7) == ([7, 7, 8, 7], [7, 8])

    def test_other_networks_and_other_views_have_other_rows(self):
        store = ActivationStore()
        ask(store, 1, 2)
        assert ask(store, 1, 2, fingerprint="b") == ([1, 2], [1, 2])
        assert ask(store, 1, 2, view="flipped") == ([1, 2], [1, 2])
        assert ask(store, 2, 1) == ([2, 1], [])

    def test_what_is_taken_is_a_copy(self):
        store = ActivationStore()
        rows = store.rows("a", keys(1, 2), WIDTH, Encoder([1, 2]))
        taken = rows.take([0, 1])
        taken += 1
        np.testing.assert_array_equal(rows.take([1, 0, 1])[:, 3], [2, 1, 2])
        assert len(rows) == 2

    def test_half_precision_takes_half_the_room_and_half_the_reading(self):
        store = ActivationStore()
        assert ask(store, 1, 2, dtype="float16") == ([1, 2], [1, 2])
        assert store.n_bytes == 2 * WIDTH * 2
        rows = store.rows("a", keys(1), WIDTH, Encoder([1]), dtype="float16")
        assert rows.take([0]).dtype == np.float16

    @pytest.mark.parametrize("sign", [1, -1])
    def test_what_half_precision_cannot_hold_is_refused(self, sign):
        store = ActivationStore()
        with pytest.raises(ValueError, match="up to 1e\\+05, more than float16 holds"):
            store.rows("a", keys(1), WIDTH, Encoder([sign * 1e5]), dtype="float16")
        assert store.n_bytes == 0
        rows = store.rows("a", keys(1), WIDTH, Encoder([sign * 1e5]))
        assert rows.take([0])[0, 0] == np.float32(sign * 1e5)

    def test_what_fails_half_way_is_not_kept(self):
        store = ActivationStore()

        def encode(places):
            yield np.zeros((1, WIDTH), np.float32)
            raise ValueError("images[1] cannot be decoded")

        with pytest.raises(ValueError, match="cannot be decoded"):
            store.rows("a", keys(1, 2), WIDTH, encode)
        assert store.n_bytes == 0
        assert ask(store, 1, 2) == ([1, 2], [1, 2])

    def test_threads_get_the_same_rows(self):
        store, answers = ActivationStore(), []
        threads = [
            threading.Thread(target=lambda i=i: answers.append(ask(store, *range(i, i + 50))[0]))
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [list(range(i, i + 50)) for i in range(8)]


class TestRoom:
    def test_what_exceeds_the_limit_is_left_to_the_caller(self, room):
        room(3)
        store = ActivationStore()
        assert ask(store, 1, 2, 3, 4) == (None, [])
        assert ask(store, 1, 2, 3) == ([1, 2, 3], [1, 2, 3])
        assert store.n_bytes == 3 * WIDTH * 4

    def test_duplicates_take_no_room(self, room):
        room(2)
        assert ask(ActivationStore(), 1, 2, 1, 2, 1) == ([1, 2, 1, 2, 1], [1, 2])

    def test_rows_unused_for_longest_go_first(self, room):
        room(6)
        store = ActivationStore()
        for pair in ((1, 2), (3, 4), (5, 6), (1, 2), (7, 8)):
            ask(store, *pair)
        assert store.n_bytes == 6 * WIDTH * 4
        assert ask(store, 5, 6, 1, 2, 7, 8)[1] == []
        assert ask(store, 3, 4)[1] == [3, 4]

    def test_rows_in_use_outlive_their_place(self, room):
        room(3)
        store = ActivationStore()
        in_use = store.rows("a", keys(1, 2), WIDTH, Encoder([1, 2]))
        ask(store, 3, 4)
        assert ask(store, 1)[1] == [1]
        np.testing.assert_array_equal(in_use.take([0, 1])[:, -1], [1, 2])

    def test_a_lower_limit_holds_from_the_next_rows_on(self, room):
        store = ActivationStore()
        for number in range(20):
            ask(store, number)
        room(5)
        ask(store, 99)
        assert store.n_bytes <= 5 * WIDTH * 4

    def test_images_that_may_never_come_again_leave_three_quarters_free(self, room):
        room(8)
        store = ActivationStore()
        encoder = Encoder([1, 2])
        for pair, kept in (((1, 2), 2), ((3, 4), 2)):
            rows = store.rows("a", keys(*pair), WIDTH, Encoder(pair), passing=True)
            np.testing.assert_array_equal(rows.take([0, 1])[:, -1], pair)
            assert store.n_bytes == kept * WIDTH * 4
        store.rows("a", keys(1, 2), WIDTH, encoder, passing=True)
        assert encoder.encoded == []

    def test_clear_forgets(self):
        store = ActivationStore()
        ask(store, 1, 2)
        store.clear()
        assert store.n_bytes == 0
        assert ask(store, 1) == ([1], [1])

    def test_the_limit_is_4_gib_unless_set(self, monkeypatch):
        monkeypatch.delenv("HYBRIDUS_ACTIVATION_GIB", raising=False)
        assert most_bytes() == 4 * 2**30
        monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", "0.5")
        assert most_bytes() == 2**29
        for wrong in ("-1", "much", "nan", ""):
            monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", wrong)
            with pytest.raises(ValueError, match=f"HYBRIDUS_ACTIVATION_GIB='{wrong}': expected"):
                most_bytes()


class TestDisk:
    def test_large_arrays_lie_in_files_and_small_ones_in_memory(self):
        assert not isinstance(scratch_array((10, 10), np.float32), np.memmap)
        large = scratch_array((2**22 + 1,), np.float32)
        assert isinstance(large, np.memmap)
        large[-1] = 3
        assert large[-1] == 3

    def test_files_have_no_name(self, on_disk, cache_folder):
        store = ActivationStore()
        rows = store.rows("a", keys(1, 2), WIDTH, Encoder([1, 2]))
        assert isinstance(rows._places[0][0], np.memmap)
        assert os.listdir(cache_folder / "scratch") == []
        assert (cache_folder / "scratch").stat().st_mode & 0o777 == 0o700

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts files in /proc")
    def test_files_are_closed_when_nobody_needs_them(self, on_disk, room):
        room(4)
        store = ActivationStore()
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for number in range(0, 200, 2):
            ask(store, number, number + 1)
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before + 2

    def test_a_full_disk_is_a_warning_that_says_what_to_do(self, on_disk, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        store = ActivationStore()
        with pytest.warns(UserWarning, match=r"no room for .* GiB .*No space left.*HYBRIDUS_CACHE"):
            assert ask(store, 1, 2) == (None, [])
        assert store.n_bytes == 0
        monkeypatch.undo()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ask(store, 1, 2) == ([1, 2], [1, 2])


def test_rows_lie_in_several_arrays():
    first, second = np.arange(6.0).reshape(3, 2), np.arange(10.0, 14.0).reshape(2, 2)
    rows = Rows([(second, 1), (first, 0), (first, 2)])
    np.testing.assert_array_equal(rows.take([2, 0, 0]), [[4, 5], [12, 13], [12, 13]])
    assert rows.take([]).shape == (0, 2)
