"""Stores of uploads that let in what they should not, or give out something else."""

from __future__ import annotations

from broken_publish import plugin, scaffolded

directory = scaffolded("uploads", "store")


class OpensWhateverIsThere(directory.AcmeUploadStore):
    """A reader that goes on reads another file."""

    def open(self, space, name, tag):
        return self._place(space, name).open("rb")


class SignsTheSpaceOnly(directory.AcmeUploadStore):
    """A ticket for one upload is one for all."""

    def _signature(self, signed):
        return super()._signature(signed.partition("/")[0])


class TakesAnySize(directory.AcmeUploadStore):
    """Whatever was announced."""

    def receive(self, path, body, size_bytes):
        place = path.partition("?")[0].removeprefix("/").split("/")
        return self._take(self._place(*place), body, size_bytes)


def _store(kind):
    return plugin("gramian_upload_store", lambda home: kind(home / "uploads", "127.0.0.1"))


opens_whatever_is_there = _store(OpensWhateverIsThere)
signs_the_space_only = _store(SignsTheSpaceOnly)
takes_any_size = _store(TakesAnySize)
