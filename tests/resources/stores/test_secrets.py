"""Secrets: every way of writing a reference, what is missing, and that values never show."""

from pathlib import Path

import pytest

from dsl.contracts.errors import ErrorType, FatalError
from dsl.contracts.redaction import scrub
from dsl.contracts.secret import Secret
from resources.stores.secrets import SecretError, backends, register, reveal, reveal_optional


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "secrets"
    made.mkdir()
    (made / "password").write_text("from-a-file\n")
    (made / "both.json").write_text('{"user": "ada", "port": 5432}')
    monkeypatch.setenv("HEADRACE_SECRETS_DIR", str(made))
    return made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${CANARY}", "canary-1"),
        ("${CANARY:?set it}", "canary-1"),
        ("${ABSENT:-other}", "other"),
        ("${ABSENT:other}", "other"),
        ("${ABSENT:-}", ""),
        ("${BLANK:-other}", "other"),
        ("${BLANK}", ""),
        ("${secret:env/CANARY}", "canary-1"),
        ("${secret:file/password}", "from-a-file"),
        ("${secret:file/both.json#user}", "ada"),
        ("${secret:file/both.json#port}", "5432"),
        ("a ${CANARY} b ${CANARY}", "a canary-1 b canary-1"),
        ("$${CANARY}", "${CANARY}"),
        ("plain $ text", "plain $ text"),
    ],
)
def test_reference(text: str, value: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CANARY", "canary-1")
    monkeypatch.setenv("BLANK", "")
    assert reveal(Secret(text)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${ABSENT}", "variable 'ABSENT' is not set .set ABSENT"),
        ("${ABSENT:?ask the owner}", "ask the owner"),
        ("${secret:env/ABSENT}", "'ABSENT' is not set"),
        ("${secret:vault/x}", "no known store of secrets .*env, file"),
        ("${secret:file}", "no known store"),
        ("${secret:file/absent}", "no such file"),
        ("${secret:file/../outside}", "does not lead to a file below"),
        ("${secret:file/link}", "does not lead to a file below"),
        ("${secret:file//etc/hostname}", "does not lead to a file below"),
        ("${secret:file/.}", "does not lead to a file below"),
        ("${secret:file/binary}", "cannot be read as UTF-8"),
        ("${secret:file/large}", "larger than"),
        ("${secret:file/password#key}", "has no key 'key'"),
        ("${secret:file/both.json#absent}", "has no key 'absent'"),
        ("${not a name}", "is not a reference"),
    ],
)
def test_missing(text: str, said: str, folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_text("hidden")
    (folder / "link").symlink_to(outside)
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    (folder / "large").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(SecretError, match=said) as raised:
        reveal(Secret(text))
    assert raised.value.error_type is ErrorType.AUTH
    assert "hidden" not in str(raised.value)


def test_a_literal_is_taken_as_it_stands() -> None:
    assert reveal(Secret("pa${ss", literal=True)) == "pa${ss"
    assert "pa${ss" not in repr(Secret("pa${ss", literal=True))


def test_values_are_taken_out_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-of-errors")
    reveal(Secret("user:${CANARY}@"))
    assert scrub("login user:canary-of-errors@ failed") == "login *** failed"
    assert "canary-of-errors" not in str(FatalError("refused canary-of-errors", where="canary-of-errors"))


def test_backends_are_added_by_name() -> None:
    register("upper", str.upper)
    assert reveal(Secret("${secret:upper/a/b}")) == "A/B"
    assert {"env", "file", "upper"} <= set(backends())


def test_no_secret_is_none() -> None:
    assert reveal_optional(None) is None
