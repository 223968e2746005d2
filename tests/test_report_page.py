"""The page of a comparison: its numbers are those of the tables, and no name in it runs."""

import base64
import dataclasses
import html
import re

import matplotlib
import numpy as np
import pytest
from browser import Browser
from cli_estimators import BrightSegmenter
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC
from tiny_images import discs
from tiny_networks import TINY

from hybridus import audit, compare, make_hybrid_classifier
from hybridus.inputs.images import as_images
from hybridus.protocol.comparison import Comparison
from hybridus.report import page as page_module
from hybridus.report.answer import say_answer, say_limits
from hybridus.report.evidence import answers_of, looked_at
from hybridus.report.page import write_report

matplotlib.use("Agg")

HOSTILE = "<script>window.pwned = 1</script>"
CLASSES = ["normal $x_1$", HOSTILE, 'be"nign\udce9']
NAMES = [f"scan ({i})'\"><img src=x onerror='window.pwned=1'>.png" for i in range(36)]


@pytest.fixture(scope="module")
def scans():
    images, masks = discs(36)
    target = np.arange(36) % 3
    images[target == 1] //= 2
    images[target == 2] = 255 - images[target == 2]
    images[35] = images[32]  # a duplicate
    return images, masks, target


@pytest.fixture(scope="module")
def found(scans):
    """Three classifiers of little use, one of which says that it was trained by epochs."""
    images, _, target = scans
    rng = np.random.default_rng(0)
    X = np.column_stack([images.mean((1, 2)), images.std((1, 2))]) + rng.normal(0, 25, (36, 2))
    models = {"bayes": GaussianNB(), f"svm {HOSTILE}": SVC(), "dummy": DummyClassifier()}
    compared = compare(models, X, target, groups="independent", n_splits=3)
    epochs = np.arange(1, 4)
    history = {"epoch": epochs, "loss": 1 / epochs, "val_loss": np.array([0.9, 0.5, 0.7])}
    history["accuracy"] = history["val_accuracy"] = np.array([0.5, 0.7, 0.6])
    return Comparison(
        [
            dataclasses.replace(one, history=history, best_epoch=2) if one.model == "bayes" else one
            for one in compared.results
        ],
        split=compared.split,
    )


@pytest.fixture(scope="module")
def of_masks(scans):
    images, masks, _ = scans
    models = {"bright": BrightSegmenter(), "brighter": BrightSegmenter(level=150)}
    return compare(models, images, masks, groups="independent", n_splits=3)


@pytest.fixture(scope="module")
def page(scans, found, of_masks, tmp_path_factory):
    """File of a page that shows all there is, of data with names that try to run code."""
    images, masks, _ = scans
    path = tmp_path_factory.mktemp("page") / "report.html"
    return found.report(
        path,
        segmentation=of_masks,
        images=images,
        masks=masks,
        names=NAMES,
        class_names=CLASSES,
        positive=1,
        features=images.reshape(36, -1)[:, ::7].astype(float),
        audit=audit(images, masks=masks, names=NAMES),
        data_name=f"data of {HOSTILE}",
        about={"seed": 0, "data digest": "abc", "models": ["one", HOSTILE]},
        command=f"hybridus compare '{HOSTILE}'",
    )


def text_of(page):
    """What a reader sees, without tags."""
    written = re.sub(r"<(style|script)>.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", written)).split())


def rows_of(page, section):
    """Texts of the cells of the table of a section."""
    part = page.read_text().split(f'<section id="{section}">')[1].split("</section>")[0]
    body = part.split("<tbody>")[1].split("</tbody>")[0]
    rows = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]
    return [[html.unescape(re.sub("<.*?>", " ", cell)).strip() for cell in row] for row in rows]


def test_numbers_are_those_of_the_tables(page, found, of_masks):
    for section, compared in (("classification", found), ("segmentation", of_masks)):
        rows = rows_of(page, section)
        assert [row[0] for row in rows] == compared.table.index.tolist()
        shown = [name for name in compared.metrics if compared.table[f"{name}_mean"].notna().any()]
        for row in rows:
            of_model = compared.table.loc[row[0]]
            for name, cell in zip(shown, row[1:], strict=False):
                low, high = compared.intervals.loc[(row[0], name), ["low", "high"]]
                digits = 1 if name == "hausdorff_95" else 3
                mean, spread = of_model[f"{name}_mean"], of_model[f"{name}_std"]
                said = f"{mean:.{digits}f} ± {spread:.{digits}f}"
                assert cell == f"{said} {low:.{digits}f} to {high:.{digits}f}"
            assert row[-2] == f"{of_model['fit_seconds'] + of_model['score_seconds']:.1f}"
        p = compared.differences["p_holm"].iloc[0]
        verdict = compared.differences["verdict"].iloc[0]
        assert rows[0][-1] == "best"
        assert rows[1][-1] == f"{'<0.001' if p < 0.001 else f'{p:.2g}'} {verdict}"
        for line in compared.conclusions + say_answer(compared) + say_limits(compared):
            assert " ".join(line.split()) in text_of(page)


def test_everything_that_was_found_is_shown_in_order(page, found):
    text = text_of(page)
    wrong = found.samples[found.samples["model"] == "bayes"].eval("truth != predicted").sum()
    order = [
        "Which model to use",
        "Not a medical device",
        "What the audit found",
        "2 images show a scan that another image shows too",
        "Classification: the models",
        "Segmentation: the models",
        "Which classes are taken for which",
        f"{HOSTILE} against the rest",
        "ROC: normal $x_1$ against the rest",
        "Precision and recall: normal $x_1$ against the rest",
        "Reliability",
        "Referral",
        "bayes: loss",
        "Masks of bright",
        "The surest errors of bayes",
        f"{wrong} of 36 images were got wrong",
        "Map of the images",
        "data digest abc",
        "hybridus compare",
    ]
    places = [text.find(said) for said in order]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)


def test_what_users_named_is_text_and_nothing_is_loaded(page):
    written = page.read_text()
    assert HOSTILE not in written
    assert html.escape(HOSTILE) in written
    assert "<img src=x" not in written
    assert written.count("<script>") == 1
    assert "http:" not in written
    assert "https:" not in written
    links = re.findall(r"(?:src|href)=\"([^\"]*)", written) + re.findall(r"url\(([^)]*)", written)
    assert all(link.strip('"').startswith(("data:", "#")) for link in links)
    assert len(written) < 1_000_000


def test_the_class_that_is_looked_for_has_a_table(page, found):
    rows = rows_of(page, "answers")
    told = found.one_against_rest(1)
    assert [row[0] for row in rows] == found.table.index.tolist()
    for name, *cells in rows:
        for measure, cell in zip(
            ("sensitivity", "specificity", "auc", "sensitivity_at_90"), cells, strict=True
        ):
            value, low, high = told.loc[(name, measure), ["value", "low", "high"]]
            if value == value:
                assert cell.startswith(f"{value:.3f}")
                assert cell.endswith(f"{low:.3f} to {high:.3f}")
            else:
                assert cell == "not defined"


def test_dots_errors_and_duplicates_are_on_the_map(page, scans, found):
    part = page.read_text().split('<section id="map">')[1]
    assert part.count("data-place=") == 36
    said = found.samples[found.samples["model"] == "bayes"].set_index("sample")
    wrong = said.index[said["truth"] != said["predicted"]]
    ringed = re.findall(r'class="wrong" data-place="(\d+)"', part)
    assert sorted(map(int, ringed)) == sorted(wrong)
    assert part.count("<line ") == 1  # scans 32 and 35
    assert part.count('class="twin"') == 2


def test_a_comparison_alone_makes_a_page(tmp_path):
    alone = wins(60, (0.9,), ("good",)).report(tmp_path / "alone.html")
    text = text_of(alone)
    for absent in ("Map of the images", "The surest errors", "Masks of", "Segmentation"):
        assert absent not in text
    assert "No audit was made" in text
    assert rows_of(alone, "data") == [["0", "30", "50 %"], ["1", "30", "50 %"]]


def test_what_cannot_be_reported_is_told(found, scans, tmp_path):
    with pytest.raises(ValueError, match="nothing to report"):
        write_report(tmp_path / "x.html")
    with pytest.raises(ValueError, match="names has 2 values for 36 images"):
        found.report(tmp_path / "x.html", images=scans[0], names=["a", "b"])
    with pytest.raises(ValueError, match="class_names has 2 names, .* 0 to 1; got the class 2"):
        found.report(tmp_path / "x.html", class_names=["a", "b"])
    assert list(tmp_path.iterdir()) == []


def test_long_names_of_classes_are_whole_and_untested_images_have_no_class(tmp_path):
    y = np.array(["normal", "malignant", "benign"])[np.arange(60) % 3]
    X = np.random.default_rng(0).normal(size=(60, 2))
    found = compare({"bayes": GaussianNB()}, X, y, groups="independent", n_splits=2)
    rows = rows_of(found.report(tmp_path / "x.html"), "data")
    assert [row[0] for row in rows] == ["benign", "malignant", "normal"]
    half = Comparison([found.results[0].without_predictions()])
    text = text_of(half.report(tmp_path / "x.html"))
    assert "bayes reaches an accuracy of" in text
    for absent in ("class images share", "What the classifiers say", "Reliability"):
        assert absent not in text


def test_masks_of_a_part_of_the_images_are_named_right(scans, of_masks, tmp_path):
    images, masks, _ = scans
    more = np.concatenate([images[::-1], images])  # the segmented ones come last
    page = write_report(
        tmp_path / "x.html",
        segmentation=of_masks,
        images=more,
        masks=masks,
        segmented=np.arange(36, 72),
        features=None,
        names=[f"caf\udce9 {i}" for i in range(72)],
    )
    written = page.read_text()
    first = of_masks.results[0]
    shown = [int(i) for i in re.findall(r"class=\"file\">caf\\udce9 (\d+)<", written)]
    assert len(shown) == 9
    assert {i - 36 for i in shown} <= set(first.test.tolist())
    assert f"Masks of {of_masks.table.index[0]}" in written


def test_where_the_best_classifier_looks_is_shown_or_why_not(scans, found, of_masks, tmp_path):
    images, masks, target = scans
    given = {"images": images, "target": target, "masks": masks, "features": None}
    fitted = make_hybrid_classifier(TINY, "logreg", weights="random", cache=False)
    fitted.fit(images, target)
    both = {"classification": found, "segmentation": of_masks, **given}
    page = write_report(
        tmp_path / "x.html", names=NAMES, class_names=CLASSES, fitted=fitted, **both
    )
    section = re.search('<section id="evidence">(.*?)</section>', page.read_text(), re.DOTALL)[1]
    shown = re.findall('<img src="data:image/(?:png|jpeg);base64,([^"]+)" alt="', section)
    answers = answers_of(found, str(found.table.index[0]))
    right = answers[answers["truth"] == answers["answer"]]
    assert len(shown) == right.groupby("truth").head(2).shape[0] > 0
    assert section.count("% on the lesion") == len(shown)
    assert HOSTILE not in section
    # The model shown was fitted on other labels: what it says, and so draws, is told.
    with_names = looked_at(
        clone(fitted).fit(images, np.array(["a", "b", "c"])[(target + 1) % 3]),
        images,
        answers,
        as_images(images),
        NAMES,
        CLASSES.__getitem__,
        {},
    )
    assert len(with_names) == len(shown)
    assert {one.answer for one in with_names} <= {"a", "b", "c"}
    fewer = write_report(tmp_path / "y.html", classification=found, fitted=GaussianNB(), **given)
    text = text_of(fewer)
    assert "This cannot be told of it: GaussianNB cannot be explained" in text
    nobody = [dataclasses.replace(one, predictions=(one.truth + 1) % 3) for one in found.results]
    none_right = Comparison(nobody, split=found.split)
    page = write_report(tmp_path / "z.html", classification=none_right, fitted=fitted, **given)
    assert '<section id="evidence">' not in page.read_text()


def wins(n, right, names=("good", "bad")):
    """Two classifiers or more, of which each is right on a share of the samples."""
    y = np.arange(n) % 2
    X = np.arange(n)[:, np.newaxis]
    known = {
        name: np.random.default_rng(k).random(n) < share
        for k, (name, share) in enumerate(zip(names, right, strict=True))
    }
    models = {name: Told(tuple(y ^ ~ok)) for name, ok in known.items()}
    return compare(models, X, y, groups="independent", scoring="accuracy", n_splits=3)


class Told(DummyClassifier):
    """Answers with what it was told of each sample."""

    def __init__(self, answers=()):
        self.answers = answers
        super().__init__()

    def predict(self, X):
        return np.asarray(self.answers)[np.asarray(X)[:, 0]].astype(int)


def test_the_answer_says_what_is_settled_and_what_is_open():
    settled = wins(300, (0.95, 0.6))
    first, second = say_answer(settled)
    assert first.startswith("Use good: it reaches an accuracy of 0.9")
    assert second.startswith("That is settled: it is better than bad by 0.3")
    first, second = say_answer(wins(60, (0.6, 0.58)))
    assert first.startswith("No model is shown to be the best: ")
    assert second.startswith("So choose by what else matters: of these two, ")
    mixed = wins(300, (0.93, 0.92, 0.6), ("good", "twin", "bad"))
    first, second = say_answer(mixed)
    assert re.match("Use (good or twin|twin or good): these data do not tell them apart", first)
    assert re.match(r"It is settled that (good|twin) is better than bad, and open against", second)
    first, second = say_answer(wins(60, (0.9,), ("good",)))
    assert first.startswith("good reaches an accuracy of ")
    assert second.startswith("It is the only model")


def test_limits_name_chance_failures_and_unknown_groups():
    said = " ".join(say_limits(wins(60, (0.5, 0.4))))
    assert "always answering with the most frequent class, which is right for 0.500" in said
    assert "chosen of 2" in said
    assert "always" not in " ".join(say_limits(wins(300, (0.95, 0.6))))
    one = wins(60, (0.9,), ("good",))
    unknown = Comparison(one.results, split="StratifiedKFold, groups unknown")
    assert "Nobody said which images belong together" in say_limits(unknown)[0]


# In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One Chromium for all."""
    one = Browser(tmp_path_factory.mktemp("chromium"))
    yield one
    one.close()


PICTURES = """
(async () => {
  const sheet = getComputedStyle(document.querySelector(".thumbnail")).backgroundImage;
  const sources = [...document.images].map((one) => one.src)
    .concat([...document.querySelectorAll("svg image")]
      .map((one) => one.href.baseVal), [sheet.slice(5, -2)]);
  return Promise.all(sources.map(async (source) => {
    const picture = new Image();
    picture.src = source;
    await picture.decode();
    return picture.naturalWidth;
  }));
})()
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_without_complaint_network_or_overflow(page, browser, width):
    browser.open(page, width)
    widths = browser.ask(PICTURES)
    assert len(widths) > 9 + 3
    assert min(widths) > 0
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    assert browser.ask("innerWidth") == width
    wide = "[...document.querySelectorAll('main *')].filter((one) => !one.closest('.scroll, svg')"
    wide += " && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML)"
    assert browser.ask(wide) == []
    assert browser.ask("typeof window.pwned") == "undefined"
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("data:", "file:"))] == []
    named = "[...document.querySelectorAll('img, svg')].every((one) => (one.alt ||"
    named += " one.getAttribute('aria-label') || one.closest('[aria-label]')))"
    assert browser.ask(named)


def test_pointing_at_a_dot_shows_its_image_and_name(page, browser):
    browser.open(page)
    shown = """
    (() => {
      const dot = document.querySelector('circle[data-place="7"]');
      dot.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
      const tip = document.getElementById("tip");
      const place = getComputedStyle(tip.querySelector(".thumbnail")).backgroundPosition;
      return [tip.hidden, document.getElementById("tip-text").textContent, place];
    })()
    """
    hidden, text, place = browser.ask(shown)
    assert not hidden
    assert text.splitlines()[0] == NAMES[7]
    assert text.splitlines()[1].startswith(HOSTILE)
    assert place == "-128px -128px"  # the second of the second row of six
    away = "document.getElementById('map-box').dispatchEvent(new PointerEvent('pointerleave'))"
    browser.ask(away)
    assert browser.ask("document.getElementById('tip').hidden")


def test_it_is_dark_where_the_reader_likes_it_dark_and_white_on_paper(page, browser):
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.open(page)
    assert browser.ask(ground) == "rgb(255, 255, 255)"
    browser.call("Emulation.setEmulatedMedia", features=dark)
    assert browser.ask(ground) == "rgb(20, 24, 28)"
    ink = "getComputedStyle(document.querySelector('#answers figure svg')).fill"
    assert browser.ask(ink) == "rgb(228, 232, 236)"
    browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert browser.ask(ground) == "rgb(255, 255, 255)"
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    printed = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF")


def test_groups_of_the_folds_stand_on_a_page_without_an_audit(scans, tmp_path):
    images, _, target = scans
    X = images.mean((1, 2))[:, np.newaxis]
    groups = np.arange(36) // 2
    found = compare({"bayes": GaussianNB()}, X, target, groups=groups, n_splits=3)
    path = found.report(tmp_path / "report.html", images=images)
    assert path.exists()
    placed = page_module._groups({"classification": found}, None)
    assert {place: int(group) for place, group in placed.items()} == dict(enumerate(groups))
