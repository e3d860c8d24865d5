"""What is written for Compose and Kubernetes, compared with their own schemas."""

import pytest
import yaml

from tests.project.rendering import MODES, with_repo, written

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    return with_repo(tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_kubernetes_own_schemas_take_it(folder, mode):
    validate = pytest.importorskip("kubernetes_validate").validate
    written(folder, "kubernetes", mode)
    for name in ("federation.yaml", "results.yaml"):
        for each in yaml.safe_load_all((folder / "kubernetes" / name).read_text()):
            for version in ("1.31", "1.34"):
                validate(each, version, strict=True)


@pytest.mark.parametrize("mode", MODES)
def test_the_specification_of_compose_takes_it(folder, mode, run_cli):
    pytest.importorskip("check_jsonschema")
    written(folder, "compose", mode)
    words = ("--builtin-schema", "vendor.compose-spec", folder / "compose" / "compose.yaml")
    code, out, err = run_cli("check_jsonschema", *words)
    assert code == 0, out + err
