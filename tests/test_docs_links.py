"""Links from the picture of an estimator in a notebook to its page."""

import pytest
from sklearn.base import clone
from sklearn.svm import SVC
from sklearn.utils import estimator_html_repr

import hybridus
from hybridus import (
    DeepFeatureExtractor,
    LesionFeatures,
    UNetSegmenter,
    VotingSegmenter,
    make_hybrid_classifier,
)
from hybridus._environment import docs_address

ESTIMATORS = [name for name in hybridus.__all__ if hasattr(getattr(hybridus, name), "get_params")]


@pytest.fixture
def no_address(monkeypatch):
    monkeypatch.delenv("HYBRIDUS_DOCS", raising=False)
    monkeypatch.setattr("hybridus._environment._published_docs", lambda: "")


def made(name):
    if name == "VotingSegmenter":
        return VotingSegmenter([("a", UNetSegmenter())])
    if name == "LesionFeatures":
        return LesionFeatures(UNetSegmenter())
    if name == "StableFeatures":
        return hybridus.StableFeatures(DeepFeatureExtractor())
    return getattr(hybridus, name)()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_public_estimator_links_to_its_page(name, monkeypatch):
    monkeypatch.setenv("HYBRIDUS_DOCS", "https://docs.local/{stable}/")
    estimator = made(name)
    page = f"https://docs.local/{{stable}}/api/generated/hybridus.{name}.html"
    assert estimator._get_doc_link() == page
    assert clone(estimator)._get_doc_link() == page


def test_without_an_address_there_is_no_link(no_address):
    assert docs_address() == ""
    picture = estimator_html_repr(UNetSegmenter())
    assert "generated/hybridus" not in picture
    assert 'href="https://scikit-learn.org' not in picture


def test_an_address_may_be_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDUS_DOCS", str(tmp_path))
    assert UNetSegmenter()._get_doc_link() == (
        f"{tmp_path.resolve().as_uri()}/api/generated/hybridus.UNetSegmenter.html"
    )


def test_a_pipeline_links_each_step_where_it_is_documented(monkeypatch):
    monkeypatch.setenv("HYBRIDUS_DOCS", "https://docs.local")
    picture = estimator_html_repr(make_hybrid_classifier("mobilenet_v2", head=SVC()))
    assert "https://docs.local/api/generated/hybridus.DeepFeatureExtractor.html" in picture
    assert "docs.local/api/generated/hybridus.SVC" not in picture
    assert "sklearn.svm.SVC.html" in picture
    assert "FeatureScaler.html" not in picture  # not public: it has no page


def test_what_someone_derived_is_not_our_page(monkeypatch):
    monkeypatch.setenv("HYBRIDUS_DOCS", "https://docs.local")

    class Mine(UNetSegmenter):
        pass

    assert Mine()._get_doc_link() == ""
