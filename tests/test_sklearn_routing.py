"""The estimators within scikit-learn's tools: routed metadata, frames from `set_output`, searches by halving."""

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")

import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nnx.sklearn import MLPClassifier, MLPRegressor, StackedSearchCV

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def made(kind=MLPClassifier, **parameters):
    return kind(**{"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0} | parameters)


@pytest.fixture
def samples(rng):
    X = 10 * rng.standard_normal((60, 3))
    return X, (X[:, 0] > X[:, 1]).astype(int), rng.integers(1, 5, 60).astype(float)


@pytest.fixture
def routed():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def asks(**parameters):
    one = made(**parameters).set_fit_request(sample_weight=True, validation_set=True, X_val=True, y_val=True)
    return one.set_score_request(sample_weight=True).set_partial_fit_request(sample_weight=True)


def test_weights_reach_the_estimator_of_a_pipeline(samples, routed):
    X, y, w = samples
    pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), asks())
    pipeline.fit(X, y, sample_weight=w)
    scaled = StandardScaler().fit_transform(X)
    expected = made().fit(scaled, y, w)
    np.testing.assert_array_equal(pipeline[-1].coefs_[0], expected.coefs_[0])
    assert pipeline.score(X, y, sample_weight=w) == expected.score(scaled, y, w)


def test_a_pipeline_transforms_the_validation(samples, routed):
    X, y, _ = samples
    pipeline = make_pipeline(StandardScaler(), asks(), transform_input=["X_val"])
    pipeline.fit(X[20:], y[20:], X_val=X[:20], y_val=y[:20])
    assert pipeline[-1].validation_scores_[-1] == pipeline.score(X[:20], y[:20])


@pytest.mark.parametrize("search", [pytest.param(GridSearchCV, marks=pytest.mark.long), StackedSearchCV])
def test_searches_pass_weights_and_the_validation(search, samples, routed):
    X, y, w = samples
    found = search(asks(), {"alpha": [0.0]}, cv=[(np.arange(40), np.arange(40, 60))])
    found.fit(X, y, sample_weight=w, validation_set=(X, y))
    fold = made(alpha=0.0).fit(X[:40], y[:40], w[:40])
    assert found.cv_results_["mean_test_score"][0] == fold.score(X[40:], y[40:], w[40:])
    whole = made(alpha=0.0).fit(X, y, w, validation_set=(X, y))
    np.testing.assert_allclose(found.best_estimator_.validation_loss_curve_, whole.validation_loss_curve_)


@pytest.mark.long
def test_weights_in_other_tools(samples, routed):
    X, y, w = samples
    folds = [(np.arange(40), np.arange(40, 60))]
    fold = made().fit(X[:40], y[:40], w[:40])
    found = cross_validate(asks(), X, y, params={"sample_weight": w}, cv=folds, return_estimator=True)
    assert found["test_score"][0] == fold.score(X[40:], y[40:], w[40:])
    np.testing.assert_array_equal(found["estimator"][0].coefs_[0], fold.coefs_[0])
    calibrated = CalibratedClassifierCV(asks(), cv=folds, ensemble=True).fit(X, y, sample_weight=w)
    np.testing.assert_array_equal(calibrated.calibrated_classifiers_[0].estimator.coefs_[0], fold.coefs_[0])
    bagged = BaggingClassifier(asks(), 2, random_state=0).fit(X, y, sample_weight=w)
    assert all(one.n_iter_ == 3 for one in bagged.estimators_)
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
        cross_validate(made(), X, y, params={"sample_weight": w}, cv=folds)


@pytest.mark.long
@pytest.mark.parametrize(("resource", "limits"), [("max_iter", {"max_resources": 12}), ("n_samples", {})])
def test_halving_searches(resource, limits, samples):
    X, y, _ = samples
    grid = {"alpha": [0.0, 1.0, 100.0]}
    search = HalvingGridSearchCV(
        made(), grid, resource=resource, cv=2, min_resources=4 if limits else 20, random_state=0, **limits
    )
    search.fit(X, y)
    assert search.best_params_["alpha"] in grid["alpha"]
    if resource == "max_iter":
        assert search.best_estimator_.n_iter_ == search.best_params_["max_iter"] == 12


@pytest.mark.long
@pytest.mark.needs("pandas")
def test_frames_from_set_output(samples):
    import pandas

    X, y, _ = samples
    frame = pandas.DataFrame(X, columns=["p", "q", "r"])
    for kind, target in ((MLPClassifier, y), (MLPRegressor, X[:, 0])):
        pipeline = make_pipeline(StandardScaler(), made(kind)).set_output(transform="pandas")
        pipeline.fit(frame, target)
        assert list(pipeline[-1].feature_names_in_) == ["p", "q", "r"]
        expected = made(kind).fit(StandardScaler().fit_transform(X), target)
        found = pipeline.predict(frame)
        np.testing.assert_allclose(found, expected.predict(StandardScaler().fit_transform(X)), rtol=1e-9)
        with pytest.raises(ValueError, match="feature names"):
            pipeline.predict(frame[["q", "p", "r"]])
    stacked = StackingClassifier([("mlp", made())], LogisticRegression(), cv=2, passthrough=True)
    assert stacked.fit(frame, y).predict(frame).shape == (60,)
    columns = stacked.set_output(transform="pandas").transform(frame).columns
    assert [*columns] == [*stacked.get_feature_names_out()] == ["stackingclassifier_mlp", "p", "q", "r"]
