"""A project's file: what it may say, and what is said of each mistake in it."""

import json

import pytest

from flops_fl.errors import UsageError
from flops_fl.project.sla import read_sla

GOOD = """{
    "verbose": true,
    "customerID": "Admin",
    "ml_repo_url": "https://example.org/me/digits.git",
    "ml_model_flavor": "sklearn",
    "use_devel_base_images": false,
    "supported_platforms": ["linux/amd64", "linux/arm64"],
    "training_configuration": {
        "mode": "hierarchical",
        "data_tags": ["mnist"],
        "training_cycles": 10,
        "training_rounds": 5,
        "min_available_clients":4,
        "min_fit_clients": 4,
        "min_evaluate_clients": 3
    },
    "post_training_steps": ["build_image_for_trained_model", "deploy_trained_model_image"],
    "resource_constraints": {
        "memory": 100,
        "vcpus": 1,
        "storage": 0
    }
}
"""


def read(tmp_path, text, name="SLA.json"):
    (tmp_path / name).write_text(text)
    return read_sla(tmp_path / name)


def refused(tmp_path, text, name="SLA.json"):
    with pytest.raises(UsageError) as refusal:
        read(tmp_path, text, name)
    return str(refusal.value).removeprefix(f"{tmp_path / name}")


def test_all_keys_of_flops_are_read(tmp_path):
    sla = read(tmp_path, GOOD)
    assert sla.model_dump(mode="json", by_alias=True) == json.loads(GOOD)
    assert sla.training.hierarchical
    assert (sla.builds_image, sla.deploys_image) == (True, True)
    root = {"role": "root", "rounds": 10, "min_available_clients": 2, "min_fit_clients": 2}
    assert sla.leading(2) == {**root, "min_evaluate_clients": 2}
    cluster = {"role": "cluster", "rounds": 5, "min_available_clients": 4, "min_fit_clients": 4}
    assert sla.leading_a_cluster() == {**cluster, "min_evaluate_clients": 3}


def test_what_is_left_out_is_as_in_flops(tmp_path):
    text = "ml_repo_url: model  # beside this file\n"
    sla = read(tmp_path, text, "SLA.yaml")
    assert sla.ml_repo_url == str(tmp_path / "model")
    assert (sla.customer_id, sla.supported_platforms) == ("Admin", ("linux/amd64",))
    minimums = dict.fromkeys(
        ("min_available_clients", "min_fit_clients", "min_evaluate_clients"), 1
    )
    assert sla.leading() == {"role": "classic", "rounds": 3, **minimums}
    assert sla.post_training_steps == sla.training.data_tags == ()


def test_json_and_yaml_say_the_same(tmp_path):
    assert read(tmp_path, GOOD.replace("    ", "\t")) == read(tmp_path, GOOD, "SLA.yml")


WRONG = [
    ('"ml_repo_url": "https://example.org/me/digits.git",\n', "",
     "ml_repo_url, line 1: missing, expected the ML repository, a Git URL or the path of a folder"),
    ('"ml_model_flavor"', '"ml_model_flavour"',
     "ml_model_flavour, line 5: no such key (did you mean ml_model_flavor?)"),
    ('"sklearn"', '"scikit-learn"',
     'ml_model_flavor, line 5: "scikit-learn", expected one of sklearn, pytorch, keras, '
     "tensorflow, xgboost, lightgbm (did you mean sklearn?)"),
    ('"Admin"', "7", "customerID, line 3: 7, expected a user's name"),
    ("true", '"loud"', 'verbose, line 2: "loud", expected true or false'),
    ("linux/arm64", "windows/amd64",
     'supported_platforms.1, line 7: "windows/amd64", expected a list of some of linux/amd64, '
     "linux/arm64 (did you mean linux/amd64?)"),
    ('["linux/amd64", "linux/arm64"]', "[]",
     "supported_platforms, line 7: [], expected a list of some of linux/amd64, linux/arm64"),
    ('"hierarchical"', '"clustered"',
     'training_configuration.mode, line 9: "clustered", expected classic or hierarchical'),
    ('"hierarchical"', '"classic"',
     "training_configuration.training_cycles, line 11: 10, the mode is classic, which has one "
     "cycle: expected mode hierarchical, or 1"),
    ('["mnist"]', '"mnist"',
     'training_configuration.data_tags, line 10: "mnist", expected a list of tags, such as '
     '["mnist"], without commas and slashes in them'),
    ('["mnist"]', '["mnist", "a,b"]',
     'training_configuration.data_tags.1, line 10: "a,b", expected a list of tags, such as '
     '["mnist"], without commas and slashes in them'),
    ('"training_rounds": 5', '"training_rounds": 0',
     "training_configuration.training_rounds, line 12: 0, expected a whole number from 1"),
    ('"training_rounds": 5', '"training_rounds": true',
     "training_configuration.training_rounds, line 12: true, expected a whole number from 1"),
    ('"min_fit_clients": 4', '"min_fit_clients": 5',
     "training_configuration.min_fit_clients, line 14: 5, more than the 4 of "
     "min_available_clients: raise that, or lower this"),
    ('"use_devel_base_images": false', '"training_rounds": 3',
     "training_rounds, line 6: no such key: it belongs into training_configuration"),
    ('"use_devel_base_images"', '"memory"',
     "memory, line 6: no such key: it belongs into resource_constraints"),
    ('"deploy_trained', '"deploy_the_trained',
     'post_training_steps.1, line 17: "deploy_the_trained_model_image", expected a list of some of '
     "build_image_for_trained_model, deploy_trained_model_image (did you mean "
     "deploy_trained_model_image?)"),
    ('"memory": 100', '"memory": "100MB"',
     'resource_constraints.memory, line 19: "100MB", expected megabytes, a whole number from 0'),
    ("true", '"yes"', 'verbose, line 2: "yes", expected true or false'),
    ("true", "1", "verbose, line 2: 1, expected true or false"),
    ('"min_available_clients":4', '"min_available_clients": "4"',
     'training_configuration.min_available_clients, line 13: "4", expected a number of learners '
     "from 1"),
    ('"training_rounds": 5', '"training_rounds": 1000000000000000000000000000000',
     "training_configuration.training_rounds, line 12: 1000000000000000000000000000000, expected "
     "at most 1,000,000, since each checkpoint has the history of all rounds"),
    ('"training_cycles": 10', '"training_cycles": 1000001',
     "training_configuration.training_cycles, line 11: 1000001, expected at most 1,000,000, since "
     "each checkpoint has the history of all rounds"),
    ('"min_available_clients":4', '"min_available_clients": 1000000',
     "training_configuration.min_available_clients, line 13: 1000000, expected at most 10,000, "
     "the most that one aggregator waits for: put cluster aggregators between learners and root"),
    ('"deploy_trained_model_image"', '"build_image_for_trained_model"',
     'post_training_steps, line 17: ["build_image_for_trained_mode ... (66 characters), '
     "build_image_for_trained_model is in it twice: expected each once"),
    ('"linux/arm64"', '"linux/amd64"',
     'supported_platforms, line 7: ["linux/amd64", "linux/amd64"], linux/amd64 is in it twice: '
     "expected each once"),
    ('["mnist"]', '["mnist", "a", "mnist"]',
     'training_configuration.data_tags, line 10: ["mnist", "a", "mnist"], mnist is in it twice: '
     "expected each once"),
    ('"vcpus": 1', '"memory": 1',
     "resource_constraints.memory, line 20: twice, line 19 has it, too"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "said"), WRONG)
@pytest.mark.parametrize("name", ["SLA.json", "SLA.yaml"])
def test_a_mistake_is_named_with_its_place(tmp_path, right, wrong, said, name):
    assert right in GOOD
    assert refused(tmp_path, GOOD.replace(right, wrong, 1), name) == f": {said}"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{\n"verbose": true,\n}', ", line 3: a comma before }, which JSON"),
        ("a.json", '{"post_training_steps": ["a",]}', ", line 1: a comma before ], which JSON"),
        ("a.json", "{\n  verbose: true\n}", ", line 2: the key verbose is not in double quotes: "),
        ("a.json", "{\n  'a': true\n}", ", line 2: the key 'a' is not in double quotes: "),
        ("a.json", '{\n  # why\n  "a": 1}', ", line 2: a comment, which JSON does not have"),
        ("a.json", '{"a": True}', ", line 1: True is no value, expected a number, a text"),
        ("a.json", '{"a": 1\n"b": 2}', ', line 2: no comma before "b": expected JSON'),
        ("a.json", '{"a" 1}', ", line 1: no colon before 1: expected JSON"),
        ("a.json", '{"a": 1}\n{}', ", line 2: { after the end of the project: expected JSON"),
        ("a.json", '{"a": "x}', ', line 1: the text "x} has no closing double quote: '),
        ("a.json", '{"a": "x\ny"}', ", line 1: a text with a tab or an end of line"),
        ("a.json", '{"a": 1', ", line 1: the file ends too early, a bracket or a brace is not"),
        ("a.yaml", "verbose: true\n ml_repo_url: x\n", ", line 2: a colon that makes no key here"),
        ("a.yaml", "verbose: true\n---\na: 1\n", ", line 2: a second document begins (---), give"),
        ("a.yaml", "a:\n\tb: 1\n", ", line 2: a tab, indent with spaces: expected YAML"),
        ("a.yaml", "a: 1\nb\nc: 2\n", ", line 3: no colon after the key in this line or in"),
        ("a.yaml", "a: 'x\n", ", line 2: the file ends within a text, a quote is not closed"),
        ("a.yaml", "a: {b: 1\n", ", line 2: the file ends too early, a bracket or a brace is not"),
        ("a.yaml", "# nothing yet\n", " has only comments"),
        ("a.json", " \n", " is empty"),
        ("a.json", "[1]", ": the file, line 1: [1], expected a mapping with customerID, verbose"),
        ("a.json", "[" * 200_000, ": nested too deeply"),
        ("a.yaml", "[" * 1_200, ": nested too deeply"),
        ("a.json", '{"verbose": "\x7f"}', ": unacceptable character"),
        ("a.json", '{"verbose": %s}' % ("9" * 5000), ": Exceeds the limit"),
        ("a.yaml", "ml_repo_url: x\n1: 2\n", ": 1, line 2: no such key: expected customerID, "),
        ("a.yaml", "? [a]\n: b\n", ", line 1: a key that is no text: expected YAML"),
    ],
)  # fmt: skip
def test_what_is_no_project_at_all(tmp_path, name, text, said):
    assert refused(tmp_path, text, name).startswith(said)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="nowhere.json cannot be read .No such file"):
        read_sla(tmp_path / "nowhere.json")
    (tmp_path / "SLA.json").write_bytes(b'{"verbose": "\xff"}')
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        read_sla(tmp_path / "SLA.json")


def test_mistakes_are_reported_together_in_their_order(tmp_path):
    text = GOOD
    for right, wrong, _ in (WRONG[1], WRONG[5], WRONG[11], WRONG[13], WRONG[-1]):
        text = text.replace(right, wrong, 1)
    head, *lines = refused(tmp_path, text).split("\n")
    assert head == " has 5 mistakes:"
    assert lines == [f"  {WRONG[n][2]}" for n in (1, 5, 11, 13, -1)]


def test_a_password_in_the_repositorys_url_is_not_shown(tmp_path):
    text = GOOD.replace('"sklearn"', '["https://me:secret@example.org/r.git"]')
    assert "secret" not in refused(tmp_path, text)
