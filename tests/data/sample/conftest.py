import pytest

SMALL = dict(subjects=2, takes=1, frames=6, views=3, height=72, width=128)


@pytest.fixture(scope="session")
def model():
    pytest.importorskip("anny", reason="the sample capture's bodies come from anny (pip install hvs[sample])")
    from hvs.data.sample.bodies import body_model

    return body_model()


@pytest.fixture(scope="session")
def small():
    from hvs.data.sample import SampleSettings

    return SampleSettings(**SMALL)


@pytest.fixture(scope="session")
def panoptic(model, small, tmp_path_factory):
    """The root of a tiny capture."""
    from hvs.data.sample import make_sample

    return make_sample(tmp_path_factory.mktemp("sample") / "panoptic", small)


@pytest.fixture(scope="session")
def human36m(model, small, tmp_path_factory):
    from hvs.data.sample import make_sample

    return make_sample(tmp_path_factory.mktemp("sample") / "human36m", small, "human36m")


@pytest.fixture(scope="session")
def person(model):
    from hvs.data.sample.people import make_person

    return make_person(seed=0, subject=0, frames=8)
