"""Turns a reference to a secret into its value, in the process that opens a connection and nowhere else; stores nothing.

References, which may stand among other text:

- `${NAME}`, `${NAME:-default}`, `${NAME:default}`, `${NAME:?message}`: from the environment;
- `${secret:env/NAME}`: from the environment;
- `${secret:file/path}`: a file below `HEADRACE_SECRETS_DIR` (`/run/secrets` if unset), without its last line break;
- `${secret:backend/path#key}`: one key of a secret that is a JSON object, from any backend;
- `$${` stands for `${`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from dsl.contracts.errors import ErrorType, FatalError
from dsl.contracts.redaction import remember
from dsl.contracts.secret import Secret

SECRETS_DIR = "HEADRACE_SECRETS_DIR"
DEFAULT_SECRETS_DIR = "/run/secrets"
LARGEST = 1 << 20

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::(-|\?)?(.*))?", re.DOTALL)

Backend = Callable[[str], str]
"""Takes the path of a secret, returns its value; raises `SecretError`."""


class SecretError(FatalError):
    """A secret that cannot be had."""

    default_type = ErrorType.AUTH


def reveal(secret: Secret) -> str:
    """Returns a secret's value, and has it removed from every error and log from now on.

    Raises:
        SecretError: A variable, a file or a backend that it refers to is missing.
    """
    value = secret.text if secret.literal else _REFERENCE.sub(_resolve, secret.text)
    return remember(value)


def reveal_optional(secret: Secret | None) -> str | None:
    """Returns a secret's value, or None where there is none; raises as `reveal` does."""
    return None if secret is None else reveal(secret)


def register(name: str, backend: Backend) -> None:
    """Adds a backend, so that `${secret:name/path}` is read from it.

    Args:
        name: What stands before the first `/`.
        backend: Returns the value of a path.
    """
    _BACKENDS[name] = backend


def backends() -> tuple[str, ...]:
    """Returns the names of all backends, sorted."""
    return tuple(sorted(_BACKENDS))


def _resolve(found: re.Match[str]) -> str:
    inner = found.group(1)
    if inner is None:
        return "${"
    value = _from_backend(inner[len("secret:") :]) if inner.startswith("secret:") else _from_variable(inner)
    return remember(value)


def _from_variable(text: str) -> str:
    found = _VARIABLE.fullmatch(text)
    if found is None:
        raise SecretError(f"'${{{text}}}' is not a reference", hint="write ${NAME} or ${secret:backend/path}")
    name, sign, rest = found.groups()
    value = os.environ.get(name)
    if value or (value is not None and not sign):
        return value
    if sign == "?":
        raise SecretError(f"variable '{name}' is not set", hint=rest or f"set {name} in the environment of the run")
    if rest is not None:
        return rest
    return _from_environment(name)


def _from_backend(text: str) -> str:
    path, _, key = text.partition("#")
    name, _, path = path.partition("/")
    backend = _BACKENDS.get(name)
    if backend is None or not path:
        raise SecretError(
            f"'${{secret:{text}}}' names no known store of secrets",
            hint=f"write ${{secret:backend/path}} with one of: {', '.join(backends())}",
        )
    value = backend(path)
    return _key_of(value, key, text) if key else value


def _key_of(value: str, key: str, text: str) -> str:
    try:
        held = json.loads(value)
    except ValueError:
        held = None
    if not isinstance(held, dict) or key not in held:
        raise SecretError(
            f"secret '${{secret:{text}}}' has no key '{key}'", hint="the secret must be a JSON object with that key"
        ) from None
    found = held[key]
    return found if isinstance(found, str) else json.dumps(found)


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SecretError(f"variable '{name}' is not set", hint=f"set {name} in the environment of the run")
    return value


def _from_file(path: str) -> str:
    folder = Path(os.environ.get(SECRETS_DIR) or DEFAULT_SECRETS_DIR)
    where = f"secret 'file/{path}'"
    try:
        root = folder.resolve(strict=True)
        found = (root / path).resolve(strict=True)
    except (OSError, ValueError) as error:
        raise SecretError(
            "there is no such file", where=where, hint=f"mount it below {folder}, or set {SECRETS_DIR}"
        ) from error
    if not found.is_relative_to(root) or not found.is_file():
        raise SecretError(f"it does not lead to a file below {SECRETS_DIR}", where=where, hint="name a file inside it")
    try:
        with found.open("rb") as opened:
            held = opened.read(LARGEST + 1)
        text = held.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError("it cannot be read as UTF-8 text", where=where, hint="check its permissions") from error
    if len(held) > LARGEST:
        raise SecretError(f"it is larger than {LARGEST} bytes", where=where, hint="name the file of one secret")
    return text.removesuffix("\n").removesuffix("\r")


_BACKENDS: dict[str, Backend] = {"env": _from_environment, "file": _from_file}
