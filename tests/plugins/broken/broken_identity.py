"""Identities that lose the node's key, or take processes for others than they are."""

from __future__ import annotations

import secrets

from broken_publish import plugin

from gramian.errors import StoreError
from gramian_local.home import open_home
from gramian_local.instance import HomeIdentity


class NewKeyEachTime(HomeIdentity):
    """Nothing that was sealed before opens again."""

    def __init__(self, home):
        super().__init__(home)
        self.master_key = secrets.token_bytes(32)


class KeyOfAPassword(HomeIdentity):
    """As many bytes as somebody liked."""

    def __init__(self, home):
        super().__init__(home)
        self.master_key = b"correct horse battery staple"


class OneMarkForAll(HomeIdentity):
    """The node's name."""

    def __init__(self, home):
        super().__init__(home)
        self.instance = "node1"


class EverybodyLives(HomeIdentity):
    """What a dead process had begun waits for ever."""

    def alive(self, instance):
        return True


class LivesOn(HomeIdentity):
    """Closing is not seen."""

    def close(self): ...


class DiesForTheOthers(HomeIdentity):
    """Knows nobody but itself."""

    def alive(self, instance):
        return instance == self.instance and super().alive(instance)


class MakesOneUp:
    """Better some key than none."""

    instance = "node1"
    master_key = bytes(32)

    def close(self): ...


def _forgetful(home):
    try:
        return HomeIdentity(open_home(home))
    except StoreError:
        return MakesOneUp()


def _identity(kind):
    return plugin("gramian_identity", lambda home: kind(open_home(home)))


new_key_each_time = _identity(NewKeyEachTime)
key_of_a_password = _identity(KeyOfAPassword)
one_mark_for_all = _identity(OneMarkForAll)
everybody_lives = _identity(EverybodyLives)
lives_on = _identity(LivesOn)
dies_for_the_others = _identity(DiesForTheOthers)
makes_one_up_in_an_outage = plugin("gramian_identity", _forgetful)
