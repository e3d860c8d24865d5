"""Passwords and tokens in URLs are used, and neither shown nor stored."""

import json
import logging
import subprocess

import pytest

from flops_fl import cli
from flops_fl.errors import UsageError
from flops_fl.images.registry import Reference
from flops_fl.net.target import Target
from flops_fl.options.reading import parse
from flops_fl.repo.source import checkout
from flops_fl.text import sentence, without_login, without_secrets
from tests.private_git import LOGIN, private_git

PASSWORD = LOGIN.partition(":")[2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:s3@h:80/x@v1", "https://h:80/x@v1"),
        ("https://me:s3/s3@h:80/x", "https://h:80/x"),
        ("http://me:s3@s3@h/", "http://h/"),
        ("http://h:8080/x.git@v1", "http://h:8080/x.git@v1"),
        ("http://[::1]:8080/x.git@v1", "http://[::1]:8080/x.git@v1"),
        ("git@h:me/x@v1", "git@h:me/x@v1"),
        ("ssh://git@h:22/x@v1", "ssh://git@h:22/x@v1"),
        ("grpc://me:s3/s3@h:9", "grpc://me@h:9"),
        ("mqtt://a:80,http://a,mqtt://me:s3@b", "mqtt://a:80,http://a,mqtt://me@b"),
        ("grpc://[::1]:80,grpc://me:s3@b:1", "grpc://[::1]:80,grpc://me@b:1"),
        ("http://h/a?token=s3&b=s3", "http://h/a?..."),
        ("http://h/a?b=s3,mqtt://h", "http://h/a?...,mqtt://h"),
        (
            "(see 'sql://me:s3@h/db?password=s3', and http://h/?s3).",
            "(see 'sql://me@h/db?...', and http://h/?...).",
        ),
        ("what? http://h/? no", "what? http://h/? no"),
        ("/a/http:/me:s3@h/x is no folder", "/a/http:/h/x is no folder"),
        ("/a/sql:/me:s3@h/x?s3", "/a/sql:/me@h/x?..."),
        ("models:/digits@prod", "models:/digits@prod"),
    ],
)
def test_a_text_has_its_urls_without_secrets(text, shown):
    assert without_secrets(text) == sentence(text) == without_secrets(shown) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("me:s3@h:1", "me@h:1"),
        ("me:s3/s3@h", "me@h"),
        ("http://me:s3 s3@h/a b", "http://h/a b"),
        ("http://h/a,me:s3@b", "http://h/a,me@b"),
        ("http://h/a mqtt://me:s3@b", "http://h/a mqtt://me@b"),
        ("python:3.12@sha256:aa", "python:3.12@sha256:aa"),
        ("models:/digits@prod", "models:/digits@prod"),
        ("file:///x/y@v1", "file:///x/y@v1"),
        ("127.0.0.1:80", "127.0.0.1:80"),
    ],
)
def test_a_value_may_lack_the_scheme(value, shown):
    assert without_login(value) == shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data ls --server grpc://me:s3@h:99", "--server grpc://me@h:99: 'me@h:99' is not an add"),
        ("data ls --server me:s3@h:99", "--server me@h:99: 'me@h:99' is no data server"),
        ("learner r --aggregator h:1 --data grpc://me:s3@h:1", "--data grpc://me@h:1: 'me@h:1' is"),
        (
            "learner r --aggregator h:1 --data http://me:s3@h/x",
            "--data http://h/x: 'http://h/x' is no",
        ),
        (
            "learner r --aggregator h:1 --data me:s3@h:1",
            "--data me@h:1: 'me@h:1' is no data server",
        ),
        ("learner r --aggregator me:s3@h:1", "--aggregator me@h:1: 'me@h:1' is not an address"),
        ("image r --push me:s3@h", "--push me@h: expected a registry without a scheme"),
        ("image r --push https://me:s3@h/x", "--push https://h/x: expected a registry without"),
        ("aggregator r --tracking-uri me:s3@h", "--tracking-uri me@h: expected a scheme, such as "),
        (
            "aggregator r --tracking-uri me:s/3@h:1/a",
            "--tracking-uri me@h:1/a: expected a scheme, ",
        ),
        ("aggregator r --notify me:s3@h", "--notify me@h: 'me@h', expected mqtt://HOST"),
        ("aggregator r --notify mqtt://me:s/3@h", "--notify mqtt://me@h: 'mqtt://me@h', expected"),
        ("learner r me:s3@h:1", "me@h:1: not expected"),
        ("learner r --agregator=me:s3@h:1", "--agregator=me@h:1: no such option"),
        ("aggregator r --strategy-option me:s3@h", "'me@h', expected KEY=VALUE"),
        ("aggregator r --json=me:s3@h", "--json: a switch, which takes no value such as 'me@h'"),
    ],
)
def test_a_wrong_option_is_named_without_its_password(words, said):
    name = next(name for name in cli.COMMANDS if f"{words} ".startswith(f"{name} "))
    argv = words.removeprefix(name).split()
    with pytest.raises(UsageError) as caught:
        parse(cli.COMMANDS[name].options_class, name, "", argv, {})
    assert said in str(caught.value)
    assert "s3" not in str(caught.value)
    assert "s/3" not in str(caught.value)


@pytest.mark.parametrize("uri", ["runs@v1", "a/b:c@d", "/a:b@c", "file:a@b", "sqlite:///a:b@c"])
def test_what_can_only_be_a_path_is_a_tracking_uri(uri):
    argv = ["r", "--tracking-uri", uri]
    assert parse(cli.COMMANDS["aggregator"].options_class, "a", "", argv, {}).tracking_uri


def test_the_environment_is_told_without_secrets(caplog):
    caplog.set_level(logging.INFO, "flops_fl")
    image, aggregator = (cli.COMMANDS[name].options_class for name in ("image", "aggregator"))
    with pytest.raises(UsageError) as caught:
        parse(image, "i", "", ["r", "--platform", "x"], {"FLOPS_PUSH": "me:s3@h"})
    assert "FLOPS_PUSH=me@h: expected a registry" in str(caught.value)
    env = {
        "FLOPS_TRACKING_URI": "postgresql://me:s3@h/db?password=s3",
        "FLOPS_NOTIFY": "http://me:s3@h/t?token=s3,mqtt://me:s3@h",
    }
    options = parse(aggregator, "a", "", ["r"], env)
    assert options.tracking_uri == env["FLOPS_TRACKING_URI"]
    assert "FLOPS_TRACKING_URI=postgresql://me@h/db?..." in caplog.text
    assert "FLOPS_NOTIFY=http://h/t?...,mqtt://me@h" in caplog.text
    assert "s3" not in str(caught.value) + caplog.text + str(options.notify)


@pytest.mark.parametrize(
    "url", ["http://h/a mqtt://me:s3@b", "http://h/a\nmqtt://me:s3@b", "http://me:s 3@h/a"]
)
def test_targets_with_white_space_are_refused(url):
    with pytest.raises(UsageError) as caught:
        parse(cli.COMMANDS["aggregator"].options_class, "a", "", ["r"], {"FLOPS_NOTIFY": url})
    said = "expected no white space: commas separate several, a space in a path is %20"
    assert said in str(caught.value)
    assert "s3" not in str(caught.value)
    assert "s 3" not in str(caught.value)
    two = [Target.parse("http://h/a"), Target.parse("mqtt://me:s3@b")]
    env = {"FLOPS_NOTIFY": "http://h/a, mqtt://me:s3@b"}
    assert parse(cli.COMMANDS["aggregator"].options_class, "a", "", ["r"], env).notify == two


def test_places_that_are_none_are_named_without_passwords():
    with pytest.raises(UsageError, match=r"^no image 'me@h/x'"):
        Reference.parse("me:s3@h/x")
    with pytest.raises(UsageError, match=r"^no ML repository at 'me@h/x.git'"):
        checkout("me:s3@h/x.git").__enter__()


@pytest.fixture
def private(tmp_path):
    """The URL of a private repository, without the login."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "model_manager.py").write_text("class ModelManager(\n")

    def git(*words):
        call = ["git", "-C", tmp_path / "work", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        subprocess.run(call, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    git("clone", "-q", "--bare", ".", tmp_path / "served" / "mlp.git")
    with private_git(tmp_path / "served") as url:
        yield f"{url}/mlp.git"


def test_the_answers_of_programs_have_no_password(run_cli, private):
    url = private.replace("://", f"://{LOGIN}@")
    code, out, err = run_cli("flops_fl", "check", f"{url}@v1", "--json")
    assert code == 3, err
    assert json.loads(out)["repo"] == f"{private}@v1"
    assert PASSWORD not in out + err
    code, out, err = run_cli("flops_fl", "serve", url)  # a line says what is loaded, then it fails
    assert code == 2, err
    assert f"loading {private} into" in err
    assert "no run in http:/127.0.0.1:" in err
    assert PASSWORD not in out + err
    code, out, err = run_cli("flops_fl", "data", "ls", "--server", f"grpc://{LOGIN}@h:1", "--json")
    assert code == 2, err
    assert "'me@h:1' is not an address" in json.loads(out)["error"]
    assert PASSWORD not in out + err


def test_a_folder_of_data_may_be_called_like_a_host(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part:1").mkdir()
    argv = ["r", "--aggregator", "127.0.0.1:1", "--insecure", "--data", "part:1"]
    cls = cli.COMMANDS["learner"].options_class
    assert parse(cls, "l", "", argv, {}).data == tmp_path / "part:1"


def test_a_url_is_no_folder_and_its_password_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="expected a path on this machine, not a URL") as told:
        cli.run(["init", "http://me:PW@h", "--framework", "numpy"])
    assert "PW" not in str(told.value)
    assert not [*tmp_path.iterdir()]
