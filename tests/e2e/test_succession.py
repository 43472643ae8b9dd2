"""A recovery key makes another admin; everybody follows, whoever was away, and nobody can take it back."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gramian.client import BadRequest
from gramian.domain.protocol import recovery as successions
from gramian.domain.protocol import roster
from gramian.errors import InvalidRequest, TransportRefused
from gramian.settings import Settings
from gramian.usecases.federation import control, membership, pulse, recovery
from gramian.usecases.projects import lifecycle
from gramian_local.cli.main import cli
from gramian_local.node import opened

everywhere = pytest.mark.transports("nats", "s3", "memory")
NAMES = [f"x{i}" for i in range(6)]
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw().hex()


def rows(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, len(NAMES)))


def member(site):
    return membership.of(site.node, lifecycle.find(site.node, site.name, "study"))


def peer_id(site) -> str:
    return site.client.federation_info("study")["local_uuid"]


def admins(sites) -> set[str]:
    return {each.client.federation_info("study")["fed_admin"] for each in sites}


def started(federate, count: int = 3, **keys):
    federation = federate(count, fed_recovery_key=PUBLIC, **keys)
    federation.learn(NAMES, "C" * 6, [rows(seed) for seed in range(count)])
    federation.sync()
    federation.assert_converged(60 * count)
    return federation


def recovered(site, key: Ed25519PrivateKey = KEY) -> None:
    recovery.recover(site.node, site.name, "study", key)


def run(*arguments: str) -> str:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False).output.strip()


@pytest.mark.parametrize("encrypt", [False, True])
def test_member_takes_over_with_the_recovery_key(federate, site, tmp_path: Path, monkeypatch, encrypt: bool) -> None:
    """Keys from the command line; the new admin evicts the lost one, changes the schedule and invites, and who was
    away all the time follows."""
    monkeypatch.setenv("GRAMIAN_RECOVERY_PASSPHRASE", "correct horse battery")
    file = tmp_path / "recovery.json"
    public = run("recovery-key", "new", str(file))
    assert run("recovery-key", "show", str(file)) == public
    assert file.stat().st_mode & 0o777 == 0o600
    federation = federate(4, fed_recovery_key=public, fed_encrypt=encrypt)
    federation.learn(NAMES, "C" * 6, [rows(seed) for seed in range(4)])
    federation.sync()
    lost, heir, _, away = federation.sites
    old, new = peer_id(lost), peer_id(heir)
    said = run("fed", "recover", heir.name, "study", "--key", str(file), "--home", str(tmp_path / heir.name))
    assert said.startswith(f"{new} is the admin")

    federation.sites = [heir, federation.sites[2]]
    heir.client.evict("study", old)
    heir.client.new_schedule("study", "h7")
    newcomer = site("newcomer")
    federation.join(newcomer)
    newcomer.client.learn("study", NAMES, "C" * 6, rows(9))
    federation.sync()
    federation.sites.append(away)
    federation.sync()
    federation.assert_converged(240)
    assert admins(federation.sites) == {new}
    infos = [each.client.federation_info("study") for each in federation.sites]
    assert {info["sync_sched"] for info in infos} == {"h7"}
    assert {info["fed_recovery_key"] for info in infos} == {public}
    assert [info["fed_is_admin"] for info in infos] == ["true", "false", "false", "false"]
    assert json.loads(infos[-1]["peersInfo"][old])["state"] == "evicted"
    with pytest.raises(BadRequest, match="no longer an active member"):
        lost.client.sync("study")


def test_old_admin_from_a_backup_follows_and_can_do_nothing(federate, site, tmp_path: Path) -> None:
    """Neither what it signs itself nor its old invitations count."""
    federation = started(federate)
    lost, heir, _ = federation.sites
    invitation = lost.client.invite("study", "password", lost.url)
    backup = tmp_path / "backup"
    shutil.copytree(tmp_path / lost.name, backup, ignore=shutil.ignore_patterns("instances"))
    recovered(heir)
    with opened(Settings(), backup) as (restored, _):
        assert membership.load(restored, lost.name, "study").is_admin
        with pytest.raises(InvalidRequest, match="only the federation's admin"):
            control.new_schedule(restored, lost.name, "study", "h2")
        pulse.run(restored, lost.name, "study")
        assert not membership.load(restored, lost.name, "study").is_admin
    with pytest.raises(BadRequest):
        site("late").client.join("study", invitation)
    federation.sync()
    federation.assert_converged(180)
    assert admins(federation.sites) == {peer_id(heir)}


def forks(before: membership.Member, heir: membership.Member, other: membership.Member) -> dict[str, bytes]:
    """Rosters that a founder who does not give up, and a member without the key, can make."""
    replace, founder = msgspec.structs.replace, before.own.signing
    late = replace(before.roster, v=2**52)
    named = {"admin_ed": other.own.ed.hex(), "admin_x": other.own.x.hex(), "founder_ed": before.roster.admin_ed}
    own_word = successions.succeed(
        other.own.signing,
        before.fed_id,
        heir.roster.successions,
        ts=2**40,
        admin_ed=named["admin_ed"],
        admin_x=named["admin_x"],
    )
    theirs = [*heir.roster.successions, own_word]
    return {
        "of the founder": roster.pack(late, founder),
        "of the founder, without the key": roster.pack(replace(late, recovery_ed=None), founder),
        "of the founder, under the succession": roster.pack(replace(heir.roster, v=2**52), founder),
        "of a member": roster.pack(replace(heir.roster, v=2**52, **named), other.own.signing),
        "of a member by its own word": roster.pack(
            replace(heir.roster, v=2**52, successions=theirs, **named), other.own.signing
        ),
    }


@everywhere
def test_fork_of_the_federation_is_replaced_wherever_it_turns_up(federate) -> None:
    """Any member puts the successor's roster back; nothing changes for anybody."""
    federation = started(federate)
    lost, heir, other = federation.sites
    before = member(lost)
    recovered(heir)
    federation.sync()
    raw = federation.meeting.raw(before.fed_id)
    digests, version = federation.params("fed_digest"), member(heir).message
    for name, message in forks(before, member(heir), member(other)).items():
        raw.write([(raw.roster(), message)])
        other.client.sync("study")
        federation.sync()
        assert {member(each).message for each in federation.sites} == {version}, name
    assert federation.params("fed_digest") == digests
    found = [line for line in other.client.error_log("study") if "forged roster" in line]
    assert len(found) == 4  # the founder's own signature is genuine and merely outranked
    federation.assert_converged(180)


@pytest.mark.parametrize("last", [1, 2])
def test_two_successions_out_of_each_others_sight_end_with_one_admin(federate, last: int) -> None:
    """The later one counts, wherever it is met first; a third outranks both."""
    federation = started(federate)
    for time, number in enumerate((1, 2) if last == 2 else (2, 1)):
        here = federation.sites[number]
        change = partial(recovery._succeeded, KEY, 1_700_000_000 + time)
        membership.change_roster(here.node, member(here), change)
    federation.sync()
    federation.assert_converged(180)
    assert admins(federation.sites) == {peer_id(federation.sites[last])}
    recovered(federation.sites[0])
    federation.sync()
    federation.assert_converged(180)
    assert admins(federation.sites) == {peer_id(federation.sites[0])}
    assert len(member(federation.sites[2]).roster.successions) == 2


def test_successor_takes_a_change_along_that_it_had_not_seen(federate) -> None:
    """What the old admin did last stands in the transport: an eviction is not undone."""
    federation = started(federate)
    lost, heir, evicted = federation.sites
    lost.client.evict("study", peer_id(evicted))
    recovered(heir)
    states = {peer.id: peer.state for peer in member(heir).roster.members}
    assert states[peer_id(evicted)] == "evicted"
    with pytest.raises(InvalidRequest, match="no active member"):
        recovered(evicted)


def test_successor_whose_login_may_not_write_the_roster_is_told(federate, monkeypatch) -> None:
    """It is the admin for itself; the others follow once it has a login that may."""
    federation = started(federate)
    heir = federation.sites[1]

    def refuse(*_args, **_keys):
        raise TransportRefused("permissions violation")

    with monkeypatch.context() as isolated:
        isolated.setattr(federation.meeting.link, "put_roster", refuse)
        with pytest.raises(TransportRefused, match="the others do not know yet: permissions violation"):
            recovered(heir)
    assert admins(federation.sites) == {peer_id(heir), peer_id(federation.admin)}
    heir.client.set_transport("study", nats_req_timeout=20)
    federation.sync()
    federation.assert_converged(180)
    assert admins(federation.sites) == {peer_id(heir)}


def test_thief_of_the_founders_key_cannot_use_up_the_versions(federate) -> None:
    """The admin can change nothing any more and is told what to do; its successor can."""
    federation = started(federate)
    lost, heir, _ = federation.sites
    before = member(lost)
    last = roster.pack(msgspec.structs.replace(before.roster, v=2**53), before.own.signing)
    raw = federation.meeting.raw(before.fed_id)
    raw.write([(raw.roster(), last)])
    federation.sync()
    with pytest.raises(BadRequest, match="somebody else has the admin's key, so recover"):
        lost.client.new_schedule("study", "h2")
    recovered(heir)
    heir.client.new_schedule("study", "h3")
    federation.sync()
    federation.assert_converged(180)
    assert {each.client.federation_info("study")["sync_sched"] for each in federation.sites} == {"h3"}


def test_recovery_without_the_right_key_or_node_says_so(federate) -> None:
    """In words that name what is wrong, and nothing changes."""
    federation = started(federate, 2)
    admin, peer = federation.sites
    with pytest.raises(InvalidRequest, match="not the federation's recovery key"):
        recovered(peer, Ed25519PrivateKey.generate())
    with pytest.raises(InvalidRequest, match="is the federation's admin already"):
        recovered(admin)
    admin.client.create_federation("plain", fed_name="plain", sync_sched="m30", **federation.meeting.keys)
    with pytest.raises(InvalidRequest, match="without a recovery key"):
        recovery.recover(admin.node, admin.name, "plain", KEY)
    for text in ("x", "0" * 64, PUBLIC + "\n0", PUBLIC[1:]):
        with pytest.raises(BadRequest, match="fed_recovery_key must be"):
            admin.client.create_federation(
                "bad", fed_name="f", sync_sched="m30", **federation.meeting.keys, fed_recovery_key=text
            )


@pytest.mark.parametrize(
    ("arguments", "passphrase", "words"),
    [
        (["new", "{}"], "short", "12 characters"),
        (["new", "{file}"], "correct horse battery", "cannot be made"),
        (["show", "{file}"], "wrong horse battery", "does not open"),
        (["show", "{}"], "correct horse battery", "cannot be read"),
        (["show", "{junk}"], "correct horse battery", "is not a file that"),
        (["show", "{swapped}"], "correct horse battery", "was altered"),
    ],
)
def test_recovery_key_that_cannot_be_used_says_why(
    tmp_path: Path, monkeypatch, arguments: list[str], passphrase: str, words: str
) -> None:
    """A file is never written over, and an altered one never trusted."""
    monkeypatch.setenv("GRAMIAN_RECOVERY_PASSPHRASE", "correct horse battery")
    run("recovery-key", "new", str(tmp_path / "file"))
    known = json.loads((tmp_path / "file").read_text())
    (tmp_path / "swapped").write_text(json.dumps({**known, "public": "ab" * 32}))
    (tmp_path / "junk").write_text("[" * 5000)
    paths = {name: str(tmp_path / name) for name in ("file", "junk", "swapped")}
    given = [each.replace("{}", str(tmp_path / "none")).format(**paths) for each in arguments]
    monkeypatch.setenv("GRAMIAN_RECOVERY_PASSPHRASE", passphrase)
    with pytest.raises(InvalidRequest, match=words):
        CliRunner().invoke(cli, ["recovery-key", *given], catch_exceptions=False)
