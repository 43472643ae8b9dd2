"""What a nats-server lets the members of one federation do, as text for its configuration.

In both forms a federation has an account of its own. Permissions alone would not keep federations apart: they do not
look at the subject that an answer is asked for on, so within one account anybody can have the server itself write to
any subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gramian_nats import names


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects that a user may publish on and hear."""

    publish: list[str]
    subscribe: list[str]


def member(fed_id: str, peer_id: str, user: str) -> Permissions:
    """What one member does, in the account of the streams or in one that reaches it by imports as in `isolated`."""
    return Permissions([*_own(fed_id, peer_id), _info(fed_id)], _heard(fed_id, user))


def shared(fed_id: str, account: str) -> str:
    """All members use one login, which can do what any member must and nothing outside this federation."""
    login = f"{account}_member"
    return f"""\
# Federation {fed_id}: one login for all members. To be included in `accounts {{ }}`.
# Set {_password(login)} at the top of the configuration, or in the environment of nats-server.
{account} {{
  jetstream: enabled
  users: [
{_user(login, _everything(fed_id), fed_id)}
  ]
}}
"""


def isolated(fed_id: str, account: str, members: Mapping[str, str]) -> str:
    """The admin's login holds the streams; every other member has a login that writes its own subjects only.

    members: peer ids by login. They sit in a second account, and what they ask for passes into the first by service
    imports: there, an answer goes back to who asked, never to a subject of its choice. The admin's node alone writes
    the roster and makes streams anew: whoever makes a stream decides what it copies where, and so could overwrite
    others.
    """
    admin, theirs = f"{account}_admin", f"{account}_members"
    passwords = "\n#   ".join(_password(login) for login in (admin, *members))
    users = "\n".join(_user(login, _own(fed_id, peer_id), fed_id) for login, peer_id in members.items())
    return f"""\
# Federation {fed_id}: its streams and its admin in one account, all other
# members in another. To be included in `accounts {{ }}`. Set at the top of the configuration, or in the environment of
# nats-server:
#   {passwords}
{account} {{
  jetstream: enabled
  users: [
{_user(admin, _everything(fed_id), fed_id)}
  ]
  exports: [
{_exports(fed_id, theirs)}
  ]
}}
{theirs} {{
  users: [
{users}
  ]
  # In an account without streams the server itself answers requests about them, so these go by another name.
  mappings: {{ "{_info(fed_id)}": "{_info_for_members(fed_id)}" }}
  imports: [
{_imports(fed_id, account)}
  ]
}}
"""


def _everything(fed_id: str) -> list[str]:
    """All that a node publishes, its making of the streams included."""
    return [
        names.roster_subject(fed_id),
        names.head_subjects(fed_id),
        names.blob_subjects(fed_id),
        names.nudge_subject(fed_id),
        *_reading(fed_id),
        *(
            f"$JS.API.STREAM.{verb}.{stream}"
            for verb in ("CREATE", "INFO")
            for stream in (names.head_stream(fed_id), names.blob_stream(fed_id))
        ),
    ]


def _own(fed_id: str, peer_id: str) -> list[str]:
    """What one member publishes where the streams are somebody else's to make."""
    return [
        names.head_subject(fed_id, peer_id),
        names.peer_blob_subjects(fed_id, peer_id),
        names.nudge_subject(fed_id),
        *_reading(fed_id),
        _info_for_members(fed_id),
    ]


def _reading(fed_id: str) -> list[str]:
    return [f"$JS.API.DIRECT.GET.{stream}" for stream in (names.head_stream(fed_id), names.blob_stream(fed_id))]


def _info(fed_id: str) -> str:
    return f"$JS.API.STREAM.INFO.{names.blob_stream(fed_id)}"


def _info_for_members(fed_id: str) -> str:
    return f"grm.{fed_id}.info"


def _written(fed_id: str) -> list[str]:
    """What members may write, of whom each only has permission for its own."""
    return [names.head_subjects(fed_id), names.blob_subjects(fed_id), names.nudge_subject(fed_id)]


def _exports(fed_id: str, to: str) -> str:
    # The answer to a batched read is many messages: a service with `response: stream`.
    entries = [f'{{ service: "{subject}", response: stream, accounts: [{to}] }}' for subject in _reading(fed_id)]
    entries += [f'{{ service: "{subject}", accounts: [{to}] }}' for subject in [_info(fed_id), *_written(fed_id)]]
    entries.append(f'{{ stream: "{names.nudge_subject(fed_id)}", accounts: [{to}] }}')
    return _lines(entries, 4)


def _imports(fed_id: str, source: str) -> str:
    def entry(kind: str, subject: str, here: str = "") -> str:
        renamed = f', to: "{here}"' if here else ""
        return f'{{ {kind}: {{ account: {source}, subject: "{subject}" }}{renamed} }}'

    entries = [entry("service", subject) for subject in [*_reading(fed_id), *_written(fed_id)]]
    entries.append(entry("service", _info(fed_id), _info_for_members(fed_id)))
    entries.append(entry("stream", names.nudge_subject(fed_id)))
    return _lines(entries, 4)


def _user(name: str, published: Sequence[str], fed_id: str) -> str:
    heard = _heard(fed_id, name)
    return f"""\
    {{
      user: "{name}"
      password: ${_password(name)}
      permissions: {{
        publish: [
{_lines([f'"{subject}"' for subject in published], 10)}
        ]
        subscribe: [{", ".join(f'"{subject}"' for subject in heard)}]
      }}
    }}"""


def _heard(fed_id: str, user: str) -> list[str]:
    # Inboxes of its own: who sees others' inboxes can have the server send them answers that they did not ask for.
    return [f"{names.inbox_prefix(user)}.>", names.nudge_subject(fed_id)]


def _password(login: str) -> str:
    """The name of the variable that stands for it."""
    return f"PASSWORD_{login}"


def _lines(entries: Sequence[str], indent: int) -> str:
    return "\n".join(" " * indent + entry for entry in entries)
