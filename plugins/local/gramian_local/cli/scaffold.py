"""Writing a new plugin: a complete distribution that works as it stands, made from the files in `scaffold/`.

Those are for a plugin `acme`; the name is replaced in every line and file name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gramian.errors import InvalidRequest

_FILES: Final = Path(__file__).parent / "scaffold"
_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,31}")
_ACME: Final = re.compile("acme", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Kind:
    """`module`: what implements it. `select`: environment with which a node uses it. `keys`: what it claims in
    federations' maps. `needs`: its dependencies."""

    module: str
    select: str
    keys: str = ""
    needs: str = '"gramian"'


_PATH = "GRAMIAN_ACME_PATH=/srv/acme"
KINDS: Final = {
    "transport": Kind("transport", "GRAMIAN_TRANSPORT=acme", keys="acme_"),
    "compute": Kind("compute", "GRAMIAN_COMPUTE=acme", needs='"gramian[numeric]"'),
    "state": Kind("store", f"GRAMIAN_STATE=acme {_PATH}"),
    "tokens": Kind("store", f"GRAMIAN_TOKENS=acme {_PATH}"),
    "blobs": Kind("store", f"GRAMIAN_BLOBS=acme {_PATH}"),
    "scheduler": Kind("scheduler", "GRAMIAN_SCHEDULER=acme"),
    "jobs": Kind("runner", "GRAMIAN_JOBS=acme"),
    "identity": Kind("identity", f"GRAMIAN_IDENTITY=acme {_PATH}"),
    "uploads": Kind("store", f"GRAMIAN_UPLOADS=acme {_PATH}"),
    "observer": Kind("", f"GRAMIAN_OBSERVERS=acme {_PATH}"),
}
"""What can be written."""


def write(name: str, kind: str, directory: Path) -> list[Path]:
    """Write the distribution `gramian-<name>` into `directory`, which must not have any of it; returns its files.

    Raises InvalidRequest for a name that is none or is taken, a file that is there, and a place that cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"'{name[:40]}' cannot name a plugin: up to 32 lower-case letters and digits, a letter first"
        )
    _refuse_taken(name, kind)
    texts = {directory / _renamed(place, name): _renamed(text, name) for place, text in _texts(kind).items()}
    try:
        taken = next((path for path in texts if path.exists()), None)
        if taken is not None:
            raise InvalidRequest(f"{taken} is there already: name another --directory")
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except OSError as error:
        raise InvalidRequest(f"cannot write {directory}: {error.strerror}; name another --directory") from error
    return list(texts)


def _refuse_taken(name: str, kind: str) -> None:
    """Of two modules of one name only one can be imported, and which one would depend on the order of directories."""
    from gramian import hook_checks, plugins

    module = f"gramian_{name}"
    if find_spec(module) is not None:
        raise InvalidRequest(
            f"'{name}' cannot name a new plugin: its module would be {module}, and one of that name is installed; "
            "choose another name"
        )
    if name in plugins.names(kind):
        by = hook_checks.source(plugins.find(kind, name))
        raise InvalidRequest(f"'{name}' cannot name a new plugin: {by} publishes {kind}.{name}; choose another name")


def _texts(kind: str) -> dict[str, str]:
    """Texts by their places in the distribution, for the name acme."""
    about, source = KINDS[kind], _FILES / kind
    keys = f'\n[project.entry-points."gramian.keys"]\n{about.keys} = "transport.acme"\n' if about.keys else ""
    values = {
        "kind": kind,
        "keys": keys,
        "needs": about.needs,
        "select": about.select,
        "module": about.module or "__init__",
    }
    texts = {
        "pyproject.toml": _filled((_FILES / "common" / "pyproject.txt").read_text(), values),
        "README.md": _filled((_FILES / "common" / "README.txt").read_text(), values),
    }
    texts["gramian_acme/__init__.py"] = (source / "hooks.py").read_text()
    texts["gramian_acme/py.typed"] = ""
    if about.module:
        texts[f"gramian_acme/{about.module}.py"] = (source / f"{about.module}.py").read_text()
    texts["tests/test_contract.py"] = (source / "test_contract.py").read_text()
    return texts


def _filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _renamed(text: str, name: str) -> str:
    """With `name` in place of acme, in the case in which it stands there."""

    def replacement(found: re.Match[str]) -> str:
        return name.upper() if found[0].isupper() else name.capitalize() if found[0][0].isupper() else name

    return _ACME.sub(replacement, text)
