import copy
import multiprocessing
import os
import pickle
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import warnings
from hashlib import blake2b

import numpy as np
import pytest

from hybridus.exceptions import FeatureStoreWarning
from hybridus.inputs.files import FileStamp
from hybridus.store import file as _store_file
from hybridus.store.file import remove_database
from hybridus.store.rows import FeatureStore, store_of

pytestmark = pytest.mark.slow

WIDTH = 40


def key_of(i):
    return blake2b(f"image {i}".encode(), digest_size=32).digest()


def row_of(key, width=WIDTH):
    """What the right row is, so that a wrong one is seen."""
    return np.random.default_rng(list(key)).standard_normal(width, dtype=np.float32)


def rows_of(keys, width=WIDTH):
    return np.array([row_of(key, width) for key in keys]).reshape(len(keys), width)


class Encoder:
    """Encodes keys and notes which."""

    def __init__(self, keys, width=WIDTH):
        self.keys, self.width, self.encoded = keys, width, []

    def __call__(self, indices):
        self.encoded += [self.keys[i] for i in indices]
        return rows_of([self.keys[i] for i in indices], self.width)


def never(indices):
    raise AssertionError(f"encode was called for {len(indices)} stored rows")


@pytest.fixture
def store(tmp_path):
    store = FeatureStore(tmp_path / "cache")
    yield store
    store.close()


@pytest.fixture
def filled(store):
    """A store with 600 rows, closed, so that all of them lie in the file itself."""
    keys = [key_of(i) for i in range(600)]
    store.write("a", keys, rows_of(keys))
    store.close()
    return store, keys


@pytest.fixture
def told():
    """The warnings of the whole test."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield told


def only(told, words):
    """Say whether there was one warning, of our kind and with these words."""
    (warning,) = told
    return warning.category is FeatureStoreWarning and words in str(warning.message)


def database(store):
    (path,) = store.location.glob("*.sqlite")
    return path


def flip(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x40]))


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# Rows


def test_each_key_is_encoded_once_and_rows_come_in_the_order_of_the_keys(store):
    keys = [key_of(i) for i in (5, 3, 5, 9, 3, 1)]
    encoder = Encoder(keys)
    np.testing.assert_array_equal(store.rows("a", keys, encoder), rows_of(keys))
    assert encoder.encoded == [key_of(i) for i in (5, 3, 9, 1)]


def test_warm_rows_are_bitwise_the_same_in_any_order_and_never_encoded(store):
    keys = [key_of(i) for i in range(1500)]
    cold = store.rows("a", keys, Encoder(keys))
    order = np.random.default_rng(0).permutation(1500)
    warm = store.rows("a", [keys[i] for i in order], never)
    assert warm.dtype == np.float32
    assert warm.tobytes() == cold[order].tobytes()


@pytest.mark.parametrize("width", [1, 7, 1280, 5000])
def test_rows_of_any_width_survive_a_new_connection(store, width):
    keys = [key_of(i) for i in range(9)]
    store.write("a", keys, rows_of(keys, width))
    store.close()
    values, found = store.lookup("a", keys)
    assert found.all()
    np.testing.assert_array_equal(values, rows_of(keys, width))
    assert store.width("a") == width


def test_special_values_keep_their_bits(store):
    row = np.array([[np.nan, -np.nan, np.inf, -0.0, 1e-45]], np.float32)
    store.write("a", [b"k"], row)
    assert store.lookup("a", [b"k"])[0].tobytes() == row.tobytes()


def test_lookup_says_what_is_missing_and_fills_it_with_nan(store):
    store.write("a", [key_of(1)], rows_of([key_of(1)]))
    values, found = store.lookup("a", [key_of(0), key_of(1), key_of(2), key_of(1)])
    assert found.tolist() == [False, True, False, True]
    assert np.isnan(values[[0, 2]]).all()
    np.testing.assert_array_equal(values[[1, 3]], rows_of([key_of(1)] * 2))


def test_a_row_is_never_served_under_another_fingerprint(store):
    keys = [key_of(i) for i in range(300)]
    store.write("a", keys, rows_of(keys))
    values, found = store.lookup("b", keys)
    assert values.shape == (300, 0)
    assert not found.any()
    encoder = Encoder(keys, width=3)
    assert store.rows("b", keys, encoder).shape == (300, 3)
    assert len(encoder.encoded) == 300
    assert store.width("a") == WIDTH
    assert store.width("b") == 3


def test_no_keys_give_no_rows(store):
    assert store.rows("a", [], never).shape == (0, 0)
    assert store.width("a") is None


def test_a_row_written_twice_keeps_its_first_values(store):
    store.write("a", [b"k"], [[1.0, 2.0]])
    store.write("a", [b"k"], [[3.0, 4.0]])
    assert store.lookup("a", [b"k"])[0].tolist() == [[1.0, 2.0]]


def test_another_width_under_one_fingerprint_is_an_error(store):
    store.write("a", [key_of(0)], rows_of([key_of(0)]))
    with pytest.raises(ValueError, match="rows of 3 values, but the store holds rows of 40"):
        store.write("a", [key_of(1)], np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"shape \(1, 40\) for 2 keys"):
        store.write("a", [key_of(1), key_of(2)], np.zeros((1, 40)))
    with pytest.raises(ValueError, match="rows of 3 values"):
        store.rows("a", [key_of(0), key_of(5)], lambda indices: np.zeros((len(indices), 3)))


def test_the_parameters_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="max_bytes=0"):
        FeatureStore(tmp_path, max_bytes=0)


# The store as a parameter


def test_cloning_pickling_and_hashing_see_only_the_parameters(filled):
    import joblib  # not above: the processes started here import this file
    from sklearn.base import BaseEstimator, clone

    store, keys = filled

    class Extractor(BaseEstimator):
        def __init__(self, cache=None):
            self.cache = cache

    before = joblib.hash(store)
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))
    assert joblib.hash(store) == before
    for other in (
        clone(Extractor(cache=store)).cache,
        copy.deepcopy(store),
        pickle.loads(pickle.dumps(store)),
    ):
        assert other is not store
        assert other == store
        assert joblib.hash(other) == before
        assert other.lookup("a", keys)[1].all()
    assert len(pickle.dumps(store)) < 500
    assert store != FeatureStore(store.folder, max_bytes=5)


def test_the_folder_comes_from_the_environment_at_the_time_of_use(tmp_path, monkeypatch):
    store = FeatureStore()
    monkeypatch.setenv("HYBRIDUS_CACHE", str(tmp_path / "one"))
    assert store.location == tmp_path / "one"
    assert repr(store) == f"FeatureStore({str(tmp_path / 'one')!r})"
    monkeypatch.delenv("HYBRIDUS_CACHE")
    assert store.location.name == "hybridus"
    assert not (tmp_path / "one").exists()


def test_only_the_owner_can_read_the_folder_and_its_files(store):
    store.write("a", [b"k"], [[1.0]])
    assert stat.S_IMODE(store.location.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in store.location.iterdir()}
    assert modes == {0o600}


# Sharing


def test_two_cold_threads_share_the_work(store):
    keys = [key_of(i) for i in range(400)]
    encoders = [Encoder(keys), Encoder(keys)]
    both_at_work = threading.Barrier(2)

    def work(encoder, results):
        def encode(indices):
            if not encoder.encoded:  # neither goes on before the other has begun
                both_at_work.wait(timeout=60)
            return encoder(indices)

        results.append(store.rows("a", keys, encode, chunk_size=4))

    results = []
    threads = [threading.Thread(target=work, args=(e, results)) for e in encoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rows in results:
        np.testing.assert_array_equal(rows, rows_of(keys))
    assert sorted(encoders[0].encoded + encoders[1].encoded) == sorted(keys)
    assert min(len(e.encoded) for e in encoders) > 0


def _search(store, keys, log):
    def encode(indices):
        with open(log, "a") as file:
            file.write("".join(f"{os.getpid()} {i}\n" for i in indices))
        time.sleep(0.01)
        return rows_of([keys[i] for i in indices])

    return store.rows("a", keys, encode, chunk_size=8)


def test_two_cold_loky_workers_encode_each_image_once(store, tmp_path):
    from joblib import Parallel, delayed

    keys = [key_of(i) for i in range(500)]
    log = tmp_path / "log"
    results = Parallel(2, backend="loky")(delayed(_search)(store, keys, log) for _ in range(4))
    for rows in results:
        np.testing.assert_array_equal(rows, rows_of(keys))
    encoded = [int(line.split()[1]) for line in log.read_text().splitlines()]
    assert sorted(encoded) == list(range(500))


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_feature_store import *
store = FeatureStore(sys.argv[1])
print("ready", flush=True)
for start in range(0, 100_000, 500):
    keys = [key_of(i) for i in range(start, start + 500)]
    store.write("a", keys, rows_of(keys))
    if len(sys.argv) > 3 and start + 500 >= int(sys.argv[3]):
        break
"""


def test_processes_that_create_the_store_and_write_the_same_rows_agree(store):
    here = os.path.dirname(__file__)
    writers = [python(WRITER, store.location, here, 1000) for _ in range(3)]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    keys = [key_of(i) for i in range(1000)]
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))
    assert store.info()["rows"] == 1000
    assert store.verify() == {"rows": 1000, "bad": 0}


def test_a_forked_child_opens_its_own_connection(filled):
    store, keys = filled
    store.lookup("a", keys)
    new = [key_of(i) for i in range(1000, 1200)]
    child = multiprocessing.get_context("fork").Process(
        target=lambda: store.write("a", new, rows_of(new))
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    assert store.lookup("a", keys + new)[1].all()
    assert store.verify() == {"rows": 800, "bad": 0}


def test_an_exception_in_encode_ends_the_claims_and_reaches_the_caller(store):
    keys = [key_of(i) for i in range(10)]

    def fail(indices):
        raise OSError("scan (3).png")

    with pytest.raises(OSError, match=r"scan \(3\)"):
        store.rows("a", keys, fail)
    mine = []
    thread = threading.Thread(target=lambda: mine.append(store.claim("a", keys)))
    thread.start()
    thread.join()
    assert mine[0].all()


CLAIMER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from test_feature_store import *
store = FeatureStore(sys.argv[1])
print(store.claim("a", [key_of(i) for i in range(3)]).tolist(), flush=True)
time.sleep(60)
"""


def test_claims_of_a_living_process_hold_and_those_of_a_dead_one_do_not(store):
    keys = [key_of(i) for i in range(5)]
    store.write("a", [key_of(2)], rows_of([key_of(2)]))
    with python(CLAIMER, store.location, os.path.dirname(__file__)) as process:
        assert process.stdout.readline() == "[True, True, False]\n"
        assert store.claim("a", keys).tolist() == [False, False, False, True, True]
        process.kill()
    assert store.claim("a", keys).tolist() == [True, True, False, True, True]


def test_an_expired_claim_is_taken_over(store, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    assert store.claim("a", [key_of(0)]).all()
    monkeypatch.setattr("platform.node", lambda: "here")
    assert not store.claim("a", [key_of(0)]).any()
    later = time.time() + 2 * store.lease_seconds
    monkeypatch.setattr(time, "time", lambda: later)
    encoder = Encoder([key_of(0)])
    np.testing.assert_array_equal(store.rows("a", [key_of(0)], encoder), rows_of([key_of(0)]))
    assert len(encoder.encoded) == 1


def test_waiting_ends_when_the_other_writes(store, monkeypatch):
    key = key_of(0)
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    assert store.claim("a", [key]).all()
    monkeypatch.setattr("platform.node", lambda: "here")
    timer = threading.Timer(0.3, lambda: store.write("a", [key], rows_of([key])))
    timer.start()
    np.testing.assert_array_equal(store.rows("a", [key], never), rows_of([key]))


# Faults


def test_a_writer_killed_in_mid_write_leaves_only_whole_rows(store):
    with python(WRITER, store.location, os.path.dirname(__file__)) as writer:
        writer.stdout.readline()
        while store.info()["rows"] < 1000:
            assert writer.poll() is None
            time.sleep(0.02)
        writer.send_signal(signal.SIGKILL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count = store.info()["rows"]
        assert count >= 1000
        assert count % 500 == 0
        keys = [key_of(i) for i in range(count + 500)]
        encoder = Encoder(keys)
        np.testing.assert_array_equal(store.rows("a", keys, encoder), rows_of(keys))
    assert encoder.encoded == keys[count:]
    assert store.verify() == {"rows": count + 500, "bad": 0}


def test_a_flipped_byte_is_found_reported_once_and_computed_again(filled, told):
    store, keys = filled
    content = database(store).read_bytes()
    for i, offset in ((17, 0), (230, 4 * WIDTH - 1), (231, 50)):
        flip(database(store), content.index(row_of(keys[i]).tobytes()) + offset)
    encoder = Encoder(keys)
    np.testing.assert_array_equal(store.rows("a", keys, encoder), rows_of(keys))
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))
    assert only(told, "3 feature rows")
    assert encoder.encoded == [keys[17], keys[230], keys[231]]
    store.close()
    flip(database(store), database(store).read_bytes().index(row_of(keys[5]).tobytes()))
    assert store.lookup("a", keys)[1].sum() == 599
    assert len(told) == 1


def test_sign_bits_flipped_in_pairs_are_found(filled):
    store, keys = filled
    start = database(store).read_bytes().index(row_of(keys[4]).tobytes())
    with open(database(store), "r+b") as file:
        file.seek(start)
        row = -np.frombuffer(file.read(4 * WIDTH), "<f4")
        file.seek(start)
        file.write(row.tobytes())
    with pytest.warns(FeatureStoreWarning, match="1 feature rows"):
        assert store.lookup("a", keys)[1].tolist() == [i != 4 for i in range(600)]


@pytest.mark.parametrize("which", [slice(0, 1), slice(1, 2), slice(0, 2)])
def test_a_row_whose_key_was_damaged_is_not_served(filled, which, told):
    store, keys = filled
    content = database(store).read_bytes()
    places = [i for i in range(len(content)) if content.startswith(keys[9], i)]
    assert len(places) == 2  # in the table and in the index
    for place in places[which]:
        flip(database(store), place + 31)
    encoder = Encoder(keys)
    np.testing.assert_array_equal(store.rows("a", keys, encoder), rows_of(keys))
    assert encoder.encoded in ([keys[9]], [], keys)
    store.verify()
    again = Encoder(keys)
    np.testing.assert_array_equal(store.rows("a", keys, again), rows_of(keys))
    assert again.encoded in ([keys[9]], [], keys)
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))
    assert store.verify() == {"rows": 600, "bad": 0}


@pytest.mark.parametrize("opened", [False, True])
def test_a_truncated_database_is_begun_anew_and_said_so(filled, opened, told):
    store, keys = filled
    if opened:
        assert store.lookup("a", keys[:1])[1].all()
    os.truncate(database(store), database(store).stat().st_size * 2 // 3)
    encoder = Encoder(keys)
    np.testing.assert_array_equal(store.rows("a", keys, encoder), rows_of(keys))
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))
    assert only(told, "damaged")
    assert len(encoder.encoded) == 600
    assert store.verify() == {"rows": 600, "bad": 0}


@pytest.mark.parametrize("content", [b"", b"no database " * 5000])
@pytest.mark.parametrize("opened", [False, True])
def test_a_file_that_is_no_database_is_replaced(filled, content, opened, told):
    store, keys = filled
    if opened:
        assert store.lookup("a", keys[:1])[1].all()
    database(store).write_bytes(content)
    np.testing.assert_array_equal(store.rows("a", keys, Encoder(keys)), rows_of(keys))
    if content:
        assert only(told, "damaged")
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))
    assert len(list(store.location.glob("*.sqlite"))) == 1


@pytest.mark.parametrize("seed", range(30))
def test_whatever_bytes_are_damaged_nothing_wrong_is_returned(filled, seed, told):
    store, keys = filled
    random = np.random.default_rng(seed)
    size = database(store).stat().st_size
    if seed % 2:  # single bytes anywhere, the first page with its schema included
        places = random.integers(0, size, 3)
        places[0] = random.integers(0, 16384)
        for place in places:
            flip(database(store), place)
    else:  # a lost block of 4 KiB
        with open(database(store), "r+b") as file:
            file.seek(random.integers(0, size // 4096) * 4096)
            file.write(random.bytes(4096) if seed % 4 else bytes(4096))
    values, found = store.lookup("a", keys)
    if found.any():
        np.testing.assert_array_equal(values[found], rows_of(keys)[found])
    for _ in range(3):
        np.testing.assert_array_equal(store.rows("a", keys, Encoder(keys)), rows_of(keys))
    store.verify()  # begins anew where the structure is damaged
    np.testing.assert_array_equal(store.rows("a", keys, Encoder(keys)), rows_of(keys))
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))
    assert store.verify() == {"rows": 600, "bad": 0}
    assert {warning.category for warning in told} <= {FeatureStoreWarning}


READER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_feature_store import *
store = FeatureStore(sys.argv[1])
keys = [key_of(i) for i in range(600)]
print("ready", flush=True)
sys.stdin.readline()
for _ in range(3):
    np.testing.assert_array_equal(store.rows("a", keys, Encoder(keys)), rows_of(keys))
"""


def test_processes_that_meet_the_damage_together_agree_on_one_new_file(filled):
    store, keys = filled
    readers = [python(READER, store.location, os.path.dirname(__file__)) for _ in range(3)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    os.truncate(database(store), database(store).stat().st_size * 2 // 3)
    for reader in readers:
        reader.stdin.write("go\n")
        reader.stdin.flush()
    for reader in readers:
        reader.communicate()
        assert reader.returncode == 0
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))
    assert database(store).name == "features-v1-1.sqlite"
    assert store.verify() == {"rows": 600, "bad": 0}


def test_a_file_that_was_replaced_since_it_was_listed_does_not_come_back(filled, monkeypatch):
    store, keys = filled
    first = database(store)
    store._file.close()
    listed, files = [], store._file.files

    def list_and_be_overtaken():
        listed.append(files())
        if len(listed) == 1:
            remove_database(first)
            (first.parent / "features-v1-1.sqlite").touch()
        return listed[-1]

    monkeypatch.setattr(store._file, "files", list_and_be_overtaken)
    np.testing.assert_array_equal(store.rows("a", keys, Encoder(keys)), rows_of(keys))
    assert listed[0] == [first]
    assert database(store).name == "features-v1-1.sqlite"


def test_on_a_full_disk_work_goes_on_with_what_is_stored(filled, told):
    store, keys = filled
    connection = store._file._open()
    connection.execute("PRAGMA max_page_count = 1")  # SQLite then says that the disk is full
    more = keys + [key_of(i) for i in range(600, 1500)]
    encoder = Encoder(more)
    for _ in range(2):
        np.testing.assert_array_equal(store.rows("a", more, encoder), rows_of(more))
    assert only(told, "full")
    assert encoder.encoded == 2 * more[600:]
    connection.execute("PRAGMA max_page_count = 100000")
    store._file._rests_until.clear()
    store.rows("a", more, Encoder(more))
    np.testing.assert_array_equal(store.rows("a", more, never), rows_of(more))


def test_in_a_read_only_folder_stored_rows_are_read_and_others_computed(filled, told):
    store, keys = filled
    store._file._open().execute("PRAGMA query_only = ON")  # as if the disk were mounted read-only
    more = [*keys, key_of(700)]
    encoder = Encoder(more)
    for _ in range(2):
        np.testing.assert_array_equal(store.rows("a", more, encoder), rows_of(more))
    assert only(told, "cannot be written to (attempt to write a readonly")
    assert encoder.encoded == [key_of(700)] * 2


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_where_no_folder_can_be_made_work_goes_on_with_one_warning(tmp_path, place, told):
    (tmp_path / "file").touch()
    store = FeatureStore(tmp_path / place)
    keys = [key_of(i) for i in range(200)]
    for _ in range(3):
        np.testing.assert_array_equal(store.rows("a", keys, Encoder(keys)), rows_of(keys))
    assert store.width("a") is None
    assert store.recall_files([FileStamp("x.png", 1, 1, 1)]) == [None]
    store.remember_files([FileStamp("x.png", 1, 1, 1)], [b"k"])
    store.release("a", keys)
    copy.deepcopy(store).write("a", keys, rows_of(keys))
    assert only(told, "cannot be made")
    assert "HYBRIDUS_CACHE" in str(told[0].message)
    assert store.info()["rows"] == 0


def test_an_error_of_the_input_device_is_survived(filled, monkeypatch, told):
    store, keys = filled

    def connect(*args, **kwargs):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sqlite3, "connect", connect)
    np.testing.assert_array_equal(store.rows("a", keys, Encoder(keys)), rows_of(keys))
    assert only(told, "disk I/O error")
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        store.clear()


def test_a_store_deleted_by_the_user_is_begun_anew(filled):
    store, keys = filled
    assert store.lookup("a", keys)[1].all()
    for path in store.location.iterdir():
        path.unlink()
    store.location.rmdir()
    encoder = Encoder(keys)
    np.testing.assert_array_equal(store.rows("a", keys, encoder), rows_of(keys))
    assert len(encoder.encoded) == 600
    assert store.info()["rows"] == 600


def test_files_of_another_schema_are_neither_read_nor_touched(filled):
    store, keys = filled
    other = store.location / "features-v999-0.sqlite"
    other.write_bytes(b"of a newer library")
    with sqlite3.connect(store._file.files()[-1]) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.warns(FeatureStoreWarning, match="schema version is 999"):
        np.testing.assert_array_equal(store.rows("a", keys, Encoder(keys)), rows_of(keys))
    assert other.read_bytes() == b"of a newer library"


# Places where write-ahead logging is unsafe


def test_on_a_network_disk_a_rollback_journal_is_used(store, monkeypatch):
    monkeypatch.setattr(_store_file, "filesystem_type", lambda folder: "nfs4")
    keys = [key_of(i) for i in range(100)]
    store.rows("a", keys, Encoder(keys))
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))
    assert store._file._open().execute("PRAGMA journal_mode").fetchone() == (b"delete",)
    assert store._file._open().execute("PRAGMA synchronous").fetchone() == (2,)
    assert len(list(store.location.iterdir())) == 1
    store.close()
    monkeypatch.setattr(_store_file, "filesystem_type", lambda folder: "ext4")
    assert store._file._open().execute("PRAGMA journal_mode").fetchone() == (b"wal",)
    np.testing.assert_array_equal(store.rows("a", keys, never), rows_of(keys))


@pytest.mark.parametrize(
    ("kind", "safe"),
    [("ext4", True), ("overlay", True), ("tmpfs", True), ("fuseblk", True), (None, True)]
    + [(kind, False) for kind in ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "9p")],
)
def test_write_ahead_logging_is_for_local_disks(tmp_path, monkeypatch, kind, safe):
    monkeypatch.setattr(_store_file, "filesystem_type", lambda folder: kind)
    assert _store_file.wal_is_safe(tmp_path) is safe


def test_the_innermost_and_latest_mount_decides(monkeypatch):
    table = (
        "22 1 0:21 / / rw - ext4 /dev/vda rw\n"
        "30 22 0:9 / /home rw shared:1 - autofs auto rw\n"
        "31 22 0:9 / /home rw shared:1 - nfs4 server:/home rw\n"
        "32 31 0:8 / /home/my\\040disk rw - xfs /dev/sdb rw\n"
    )
    monkeypatch.setattr(_store_file.Path, "read_text", lambda self, **kwargs: table)
    kinds = [
        _store_file.filesystem_type(_store_file.Path(folder))
        for folder in ("/", "/tmp", "/home", "/home/ann/.cache", "/homes", "/home/my disk/x")
    ]
    assert kinds == ["ext4", "ext4", "nfs4", "nfs4", "ext4", "xfs"]


# The size limit


def test_beyond_the_limit_the_rows_used_least_recently_go(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path / "cache", max_bytes=4_000_000)
    now = [1e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    loved = [key_of(i) for i in range(256)]
    store.write("a", loved, rows_of(loved, 500))
    for start in range(1000, 9000, 500):
        now[0] += 100
        keys = [key_of(i) for i in range(start, start + 500)]
        store.write("a", keys, rows_of(keys, 500))
        now[0] += 100
        assert store.lookup("a", loved)[1].all()
        assert database(store).stat().st_size <= 5_200_000
    found = store.lookup("a", [key_of(i) for i in range(1000, 9000)])[1]
    assert not found[300:5500].any()
    assert found[-700:].all()
    assert store.verify()["bad"] == 0

    now[0] += 100
    assert store.lookup("a", loved)[1].all()
    smaller = FeatureStore(store.folder, max_bytes=1_500_000)
    smaller.write("a", [key_of(1)], rows_of([key_of(1)], 500))
    assert database(store).stat().st_size <= 1_650_000
    assert smaller.lookup("a", loved)[1].all()
    store.close()


def test_a_store_too_small_for_its_rows_still_returns_them(tmp_path):
    store = FeatureStore(tmp_path, max_bytes=1)
    keys = [key_of(i) for i in range(300)]
    for _ in range(2):
        np.testing.assert_array_equal(store.rows("a", keys, Encoder(keys)), rows_of(keys))
    assert store.info()["rows"] == 0
    store.close()


# Files


def test_an_unchanged_file_is_known_by_its_path_size_and_times(store):
    old = time.time_ns() - 10**10
    files = [FileStamp(f"/patient {i}.png", 100 + i, old + i, old) for i in range(600)]
    keys = [key_of(i) for i in range(600)]
    assert store.recall_files(files) == [None] * 600
    store.remember_files(files, keys)
    assert store.recall_files(files[::-1]) == keys[::-1]
    for change in (
        {"size": 1},
        {"mtime_ns": old},
        {"ctime_ns": old + 1},
        {"path": "/p"},
        {"reading": "x"},
    ):
        assert store.recall_files([files[7]._replace(**change)]) == [None]
    store.close()
    assert b"patient" not in database(store).read_bytes()


def test_a_file_changed_just_now_is_not_trusted(store):
    file = FileStamp("scan.png", 100, 1, time.time_ns())
    store.remember_files([file], [b"k"])
    assert store.recall_files([file]) == [None]


def test_file_entries_can_be_switched_off(store):
    wary = FeatureStore(store.folder, file_entries=False)
    file = FileStamp("scan.png", 100, 10**18, 10**18)
    wary.remember_files([file], [b"k"])
    assert store.recall_files([file]) == [None]
    store.remember_files([file], [b"k"])
    assert store.recall_files([file]) == [b"k"]
    assert wary.recall_files([file]) == [None]


# Looking after it


def test_info_tells_what_is_stored_and_creates_nothing(store):
    assert store.info() == {
        "folder": str(store.location),
        "bytes": 0,
        "max_bytes": 10 * 2**30,
        "rows": 0,
        "files": 0,
        "fingerprints": [],
    }
    assert not store.location.exists()
    store.write("a", [b"1", b"2"], np.ones((2, 3)))
    store.write("b", [b"1"], np.ones((1, 5)))
    info = store.info()
    assert info["rows"] == 3
    assert 0 < info["bytes"] < 3e6
    assert {f["fingerprint"]: (f["rows"], f["width"]) for f in info["fingerprints"]} == {
        "a": (2, 3),
        "b": (1, 5),
    }
    assert all(abs(f["last_use"] - time.time()) < 60 for f in info["fingerprints"])


def test_clear_deletes_one_fingerprint_or_all_and_returns_the_space(store):
    assert store.clear() == 0
    keys = [key_of(i) for i in range(500)]
    store.write("a", keys, rows_of(keys, 1000))
    store.write("b", keys[:20], rows_of(keys[:20]))
    store.remember_files([FileStamp("scan.png", 1, 1, 1)], [keys[0]])
    assert store.clear("a") == 500
    assert store.info()["bytes"] < 400_000
    assert store.lookup("b", keys[:20])[1].all()
    assert not store.lookup("a", keys)[1].any()
    assert store.clear() == 20
    info = store.info()
    assert (info["rows"], info["files"], info["fingerprints"]) == (0, 0, [])
    store.close()
    assert rows_of(keys[:1]).tobytes() not in database(store).read_bytes()


def test_verify_removes_bad_rows(filled):
    store, keys = filled
    assert store.verify() == {"rows": 600, "bad": 0}
    store.close()
    flip(database(store), database(store).read_bytes().index(row_of(keys[300]).tobytes()))
    with pytest.warns(FeatureStoreWarning, match="1 feature rows"):
        assert store.verify() == {"rows": 600, "bad": 1}
    assert store.verify() == {"rows": 599, "bad": 0}
    assert store.lookup("a", keys)[1].sum() == 599


def test_rows_of_another_width_under_one_fingerprint_are_refused(tmp_path):
    store = FeatureStore(tmp_path)
    store.rows("encoder", [b"a"], lambda indices: np.ones((len(indices), 3)))
    with pytest.raises(ValueError, match="one encoder and one width|width"):
        store.rows("encoder", [b"a", b"b"], lambda indices: np.ones((len(indices), 4)))


@pytest.mark.parametrize("text", ["False", "True", "None"])
def test_a_switch_written_as_text_makes_no_folder_of_that_name(text):
    with pytest.raises(ValueError, match="is text and would be a folder of that name"):
        store_of(text)
