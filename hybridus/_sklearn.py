"""scikit-learn's private names: whatever we use of its inside is imported here and nowhere else.

They may move in any release, so `setup.cfg` names the versions that were tried, and a new one is
tried by the tests of this module before it is let in.
"""

from collections.abc import Iterator
from typing import Any

from sklearn import config_context
from sklearn.base import _fit_context
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils._set_output import _get_output_config, _wrap_data_with_container
from sklearn.utils.metadata_routing import MetadataRouter, get_routing_for_object
from sklearn.utils.metaestimators import _BaseComposition, _safe_split
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_sample_weight,
    _check_y,
    _num_samples,
)

from hybridus._environment import docs_address

__all__ = [
    "BaseSearchCV",
    "DocsLink",
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "_BaseComposition",
    "_check_feature_names_in",
    "_check_partial_fit_first_call",
    "_check_sample_weight",
    "_check_y",
    "_fit_context",
    "_get_output_config",
    "_num_samples",
    "_safe_indexing",
    "_safe_split",
    "_wrap_data_with_container",
    "asks_for",
    "consumers",
]


def consumers(model: Any, name: str) -> list[Any]:
    """List what gets a metadatum that is passed to the `fit` of an estimator.

    Metadata routing must be on.

    Parameters
    ----------
    model : estimator
    name : str
        Such as "groups".

    Returns
    -------
    list of objects
        Estimators, splitters and scorers inside `model`, or `model` itself; each once.

    Raises
    ------
    NotImplementedError
        Where an estimator does not know routing.
    """

    def walk(router: Any, method: str) -> Iterator[Any]:
        if not isinstance(router, MetadataRouter):
            if router.consumes(method, [name]):
                yield router.owner
            return
        for _, (mapping, inner) in router:
            for caller, callee in mapping:
                if caller == method:
                    yield from walk(inner, callee)

    return list({id(one): one for one in walk(get_routing_for_object(model), "fit")}.values())


def asks_for(what: Any, method: str, name: str) -> bool:
    """Whether a method of an estimator or splitter, or of what is inside, asks for a metadatum.

    Parameters
    ----------
    what : estimator or splitter
    method : str
        Such as "fit".
    name : str
        Such as "groups".
    """
    with config_context(enable_metadata_routing=True):
        try:
            return bool(get_routing_for_object(what).consumes(method, [name]))
        except NotImplementedError:
            return False


class DocsLink:
    """Mixin of public estimators: in a notebook their picture links to their page of ours.

    There is no link where no address is known (`hybridus._environment.docs_address`), and none from
    a class that someone derived, which our documentation does not describe. scikit-learn's own
    parts of a pipeline link to scikit-learn as ever. Put it before BaseEstimator.
    """

    _doc_link_module = "hybridus"

    @property
    def _doc_link_template(self) -> str:
        import hybridus

        name, address = type(self).__name__, docs_address()
        if not address or name not in dir(hybridus):
            return ""
        page = f"{address}/api/generated/hybridus.{name}.html"
        return page.replace("{", "{{").replace("}", "}}")


def svc_gamma(head: Any) -> float:
    """Return the gamma that a fitted SVC computes kernels with, ``gamma="scale"`` resolved."""
    return float(head._gamma)
