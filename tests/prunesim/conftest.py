from tests.studies.conftest import tiny_model  # noqa: F401
