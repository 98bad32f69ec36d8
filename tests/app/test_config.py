"""Settings: file, then environment, then flags; what can't be used is refused with its origin and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mainspring.app.cli import cli
from mainspring.app.config import Settings, read
from mainspring.core.errors import SettingsError


def test_without_anything_said_the_home_is_here(tmp_path: Path) -> None:
    assert read(tmp_path, environment={}) == Settings(tmp_path / ".mainspring")


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "mainspring.toml").write_text('port = 1001\ncontrol_port = 1002\nmax_rows = 1003\nhost = "::1"\n')
    environment = {"MAINSPRING_CONTROL_PORT": "2002", "MAINSPRING_MAX_ROWS": "2003"}

    settings = read(tmp_path, environment=environment, max_rows=3003, port=None)

    assert (settings.port, settings.control_port, settings.max_rows, settings.host) == (1001, 2002, 3003, "::1")


def test_the_table_of_pyproject_counts_and_mainspring_toml_comes_after_it(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.mainspring]\nport = 1001\nmax_rows = 7\n')
    (tmp_path / "mainspring.toml").write_text("port = 2001\n")

    settings = read(tmp_path, environment={})

    assert (settings.port, settings.max_rows) == (2001, 7)


def test_a_pyproject_without_the_table_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.ruff]\nline-length = 120\n[project]\nname = "x"\n')

    assert read(tmp_path, environment={}) == Settings(tmp_path / ".mainspring")


def test_in_a_folder_below_the_project_its_home_and_file_count(tmp_path: Path) -> None:
    (tmp_path / "mainspring.toml").write_text("port = 1001\n")
    below = tmp_path / "notebooks" / "march"
    below.mkdir(parents=True)

    settings = read(below, environment={})

    assert settings.home == tmp_path / ".mainspring" and settings.port == 1001


def test_another_home_is_named_by_flag_before_environment(tmp_path: Path) -> None:
    environment = {"MAINSPRING_HOME": str(tmp_path / "by-environment")}

    assert read(tmp_path, environment=environment).home == tmp_path / "by-environment"
    assert read(tmp_path, environment=environment, home="by-flag").home == tmp_path / "by-flag"


def test_with_another_home_the_project_s_file_still_counts(tmp_path: Path) -> None:
    (tmp_path / "mainspring.toml").write_text("port = 1001\n")

    assert read(tmp_path, environment={}, home=tmp_path / "state").port == 1001


def test_the_home_of_another_project_brings_that_project_s_file(tmp_path: Path) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir(), other.mkdir()
    (here / "mainspring.toml").write_text("port = 1001\n")
    (other / "mainspring.toml").write_text("port = 2002\n")

    assert read(here, environment={}, home=other / ".mainspring").port == 2002


def test_mlflow_s_own_variable_is_heard_after_ours(tmp_path: Path) -> None:
    theirs = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}

    assert read(tmp_path, environment=theirs).mlflow == "http://mlflow:5000"
    assert read(tmp_path, environment={**theirs, "MAINSPRING_MLFLOW": "http://ours"}).mlflow == "http://ours"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prot", "did you mean 'port'?"),
        ("maxrows", "did you mean 'max_rows'?"),
        ("zzz", "known are cert, control_port, "),
    ],
)
def test_an_unknown_setting_is_answered_with_the_nearest(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "mainspring.toml").write_text(f"{name} = 1\n")

    with pytest.raises(SettingsError) as caught:
        read(tmp_path, environment={})

    assert said in str(caught.value) and str(tmp_path / "mainspring.toml") in str(caught.value)


def test_an_unknown_variable_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="environment: setting 'prt' is unknown; did you mean 'port'"):
        read(tmp_path, environment={"MAINSPRING_PRT": "1"})


@pytest.mark.parametrize(
    "line",
    [
        'port = "many"',
        "port = 87.5",
        "port = true",
        "port = 65536",
        "max_rows = 0",
        "port = -1",
        'host = ""',
        "host = 5",
    ],
)
def test_a_value_that_can_not_be_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "mainspring.toml").write_text(line)

    with pytest.raises(SettingsError, match=f"{line.split()[0]} = .* must be"):
        read(tmp_path, environment={})


def test_a_file_can_not_move_the_home_away_from_itself(tmp_path: Path) -> None:
    (tmp_path / "mainspring.toml").write_text('home = "elsewhere"\n')

    with pytest.raises(SettingsError, match="--home or MAINSPRING_HOME"):
        read(tmp_path, environment={})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mainspring.toml", "port 8700", "is not TOML"),
        ("mainspring.toml", b"\xff\xfe", "is not TOML"),
        ("pyproject.toml", "[tool]\nmainspring = 3\n", "must be a table"),
        ("pyproject.toml", "tool = 3\n", "must be a table"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(SettingsError, match=said) as caught:
        read(tmp_path, environment={})

    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_an_environment_s_table_comes_after_the_rest_of_the_file_and_before_variables(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.mainspring]\nport = 1001\nmax_rows = 1\n"
        "[tool.mainspring.env.prod]\nport = 1002\nmax_rows = 2\ncontrol_port = 3\n"
    )
    (tmp_path / "mainspring.toml").write_text("max_rows = 7\nport = 7\n[env.prod]\nport = 1003\n[env.test]\nport = 9\n")

    settings = read(tmp_path, environment={"MAINSPRING_ENV": "prod", "MAINSPRING_CONTROL_PORT": "4"})

    assert (settings.port, settings.max_rows, settings.control_port) == (1003, 2, 4)
    assert read(tmp_path, environment={}).port == 7


@pytest.mark.parametrize(
    ("text", "chosen", "said"),
    [
        ("[env.prod]\nport = 1\n", "prd", "environment 'prd' has no table .* did you mean 'prod'?"),
        ("port = 1\n", "prod", "environment 'prod' has no table .* there are none"),
        ("[env.prod]\nprot = 1\n", "", r"\[env.prod\]: setting 'prot' is unknown; did you mean 'port'?"),
        ("[env.prod]\nport = 'x'\n", "", r"\[env.prod\]: port = 'x' must be a whole number"),
        ("[env.prod]\nhome = 'x'\n", "prod", "home can't be set here"),
        ("[env]\nport = 1\n", "", "env must have a table for each environment, such as"),
        ("env = 'prod'\n", "", "env must have a table for each environment, such as"),
        ("[envs.prod]\nport = 1\n", "", "setting 'envs' is unknown; did you mean 'env'?"),
    ],
)
def test_an_environment_that_can_not_be_is_refused(tmp_path: Path, text: str, chosen: str, said: str) -> None:
    (tmp_path / "mainspring.toml").write_text(text)

    with pytest.raises(SettingsError, match=said):
        read(tmp_path, environment={"MAINSPRING_ENV": chosen})


@pytest.mark.parametrize("arguments", [["--env", "prod", "doctor"], ["plan", "none.py", "--env", "prod"]])
def test_the_environment_is_chosen_by_a_flag_too(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mainspring.toml").write_text("[env.pord]\nport = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAINSPRING_ENV", "pord")

    refused = CliRunner().invoke(cli, arguments)

    assert isinstance(refused.exception, SettingsError) and "did you mean 'pord'?" in str(refused.exception)
