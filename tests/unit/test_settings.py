"""Settings: which source wins, and that every wrong one is named in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as checked
from hypothesis import strategies as st

from hierdraft.errors import HierdraftError, SettingsError, UsageError
from hierdraft.settings import Settings, config_path, load_settings, origins


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty settings file in force, and no other HIERDRAFT_ variable."""
    for name in [name for name in os.environ if name.startswith("HIERDRAFT_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "settings.toml"
    path.write_text("")
    monkeypatch.setenv("HIERDRAFT_CONFIG", str(path))
    return path


def one_sentence(error: pytest.ExceptionInfo[HierdraftError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_defaults(config: Path) -> None:
    settings = load_settings()
    assert settings == Settings()
    assert (settings.model, settings.engine, settings.method) == ("smollm2-135m", "auto", "hierarchy")
    assert (settings.dtype, settings.budget, settings.max_new_tokens) == ("auto", "auto", 256)
    assert settings.threads is None
    assert settings.cache_dir.is_absolute()


def test_file_then_environment_then_argument(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('model = "a"\nmethod = "b"\nbudget = 3\n')
    monkeypatch.setenv("HIERDRAFT_METHOD", "c")
    monkeypatch.setenv("HIERDRAFT_BUDGET", "4")
    settings = load_settings(budget=5, model=None)
    assert (settings.model, settings.method, settings.budget) == ("a", "c", 5)


def test_origins_name_the_winning_source(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('model = "a"\nmethod = "b"\nbudget = 3\n')
    monkeypatch.setenv("HIERDRAFT_METHOD", "c")
    monkeypatch.setenv("HIERDRAFT_BUDGET", "4")
    found = {name: (item.value, item.origin) for name, item in origins(budget=0, threads=None).items()}
    assert found["model"] == ("a", "file")
    assert found["method"] == ("c", "environment")
    assert found["budget"] == (0, "argument")
    assert found["threads"] == (None, "default")
    assert set(found) == set(Settings.model_fields)


def test_empty_variables_count_as_unset(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERDRAFT_MODEL", "")
    assert load_settings().model == "smollm2-135m"


def test_the_default_file_may_be_missing(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIERDRAFT_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("HOME", str(tmp_path / "nothing"))
    assert config_path().name == "config.toml"
    assert load_settings() == Settings()


def test_a_named_file_may_not_be_missing(config: Path) -> None:
    config.unlink()
    with pytest.raises(SettingsError, match=r"HIERDRAFT_CONFIG names it.*No such file"):
        load_settings()


def test_home_folder_is_expanded(config: Path) -> None:
    config.write_text('cache_dir = "~/models"\n')
    assert load_settings().cache_dir == Path.home() / "models"


def test_unknown_key_in_the_file(config: Path) -> None:
    config.write_text("buget = 3\n")
    with pytest.raises(SettingsError) as error:
        load_settings()
    text = one_sentence(error)
    assert "'buget'" in text
    assert str(config) in text


def test_unknown_variable(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERDRAFT_BUGET", "3")
    with pytest.raises(SettingsError, match="HIERDRAFT_BUGET"):
        load_settings()


def test_unknown_override(config: Path) -> None:
    with pytest.raises(UsageError, match="'buget'"):
        load_settings(buget=3)


def test_malformed_file_names_the_line(config: Path) -> None:
    config.write_text('model = "a"\nbudget 3\n')
    with pytest.raises(SettingsError, match="line 2"):
        load_settings()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_part_of_the_file(config: Path, encoding: str) -> None:
    config.write_text('method = "a"\r\nbudget = 3\r\n', encoding=encoding)
    assert (load_settings().method, load_settings().budget) == ("a", 3)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_wide_text_is_named(config: Path, encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    config.write_bytes(mark + 'method = "a"\n'.encode(encoding))
    with pytest.raises(SettingsError, match="save it as UTF-8") as error:
        load_settings()
    assert "UTF-16" in one_sentence(error)


def test_file_that_is_not_text(config: Path) -> None:
    config.write_bytes(b'method = "caf\xe9"')
    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings()


@pytest.mark.parametrize(
    "line",
    [
        "budget = 129",
        "budget = -1",
        "budget = true",
        'budget = "some"',
        'engine = "fast"',
        'dtype = "int3"',
        "max_new_tokens = 0",
        "max_new_tokens = 1.5",
        "threads = 0",
        "threads = false",
        'model = ""',
        'method = ""',
        'cache_dir = ""',
        "cache_dir = 3",
    ],
)
def test_bad_value_in_the_file(config: Path, line: str) -> None:
    config.write_text(line + "\n")
    with pytest.raises(SettingsError) as error:
        load_settings()
    text = one_sentence(error)
    assert text.startswith(line.split(" ")[0])
    assert str(config) in text


def test_bad_value_in_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERDRAFT_BUDGET", "500")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert "HIERDRAFT_BUDGET" in one_sentence(error)
    assert "from 0 to 128" in one_sentence(error)


def test_bad_override_is_a_usage_error(config: Path) -> None:
    with pytest.raises(UsageError, match="threads must be"):
        load_settings(threads=0)


@pytest.mark.parametrize("budget", ["auto", 0, 128])
def test_budgets_in_range(config: Path, budget: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(budget=budget).budget == budget
    monkeypatch.setenv("HIERDRAFT_BUDGET", str(budget))
    assert load_settings().budget == budget


@given(budgets=st.lists(st.none() | st.integers(-300, 300), min_size=3, max_size=3))
@checked(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_strongest_source_alone_decides(config: Path, budgets: list[int | None]) -> None:
    """Whatever each source says, the strongest one given wins, is named as the origin, and alone is checked."""
    in_file, in_environment, argument = budgets
    config.write_text("" if in_file is None else f"budget = {in_file}\n")
    given_by = dict(zip(("file", "environment", "argument"), budgets, strict=True))
    origin, wanted = next(
        ((name, given_by[name]) for name in reversed(given_by) if given_by[name] is not None), ("default", "auto")
    )
    with pytest.MonkeyPatch.context() as patch:
        if in_environment is not None:
            patch.setenv("HIERDRAFT_BUDGET", str(in_environment))
        if wanted == "auto" or 0 <= int(str(wanted)) <= 128:
            found = origins(budget=argument)["budget"]
            assert (found.value, found.origin) == (wanted, origin)
        else:
            with pytest.raises(UsageError if origin == "argument" else SettingsError) as error:
                load_settings(budget=argument)
            assert str(wanted) in one_sentence(error)


@pytest.mark.parametrize("line", ["packs = ['~nosuchuser/x']", "data_dir = '~nosuchuser/x'"])
def test_the_home_of_a_user_that_there_is_not(config: Path, line: str) -> None:
    config.write_text(line)
    with pytest.raises(SettingsError, match="nosuchuser"):
        load_settings()


def test_a_settings_file_in_the_home_of_a_user_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERDRAFT_CONFIG", "~nosuchuser/x")
    with pytest.raises(SettingsError, match="no such user"):
        load_settings()


def test_lists_in_lists_too_deep(config: Path) -> None:
    config.write_text("model = " + "[" * 3000 + "]" * 3000)
    with pytest.raises(SettingsError, match="deep"):
        load_settings()


def test_more_threads_than_any_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERDRAFT_THREADS", "9" * 23)
    with pytest.raises(SettingsError, match="from 1 to 4096"):
        load_settings()
