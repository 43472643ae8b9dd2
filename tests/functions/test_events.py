"""The events beside the handlers are what the generator makes, and what signs them is the contract."""

from __future__ import annotations

import json
from pathlib import Path

from gramian.domain import signing

FUNCTIONS = Path(__file__).parents[2] / "functions"


def test_written_events_are_what_the_generator_makes_now(events) -> None:
    """Run `python functions/events.py` after a change."""
    made = events.events()
    assert {path.parent.name for path in FUNCTIONS.glob("*/handler.py")} == set(made)
    for name, event in made.items():
        assert (FUNCTIONS / name / "event.json").read_text() == events.text_of(event), name


def test_event_signed_now_covers_its_raw_path_and_query(events) -> None:
    """With a user's own key and the present time."""
    event = events.events(cid="someone", secret_key="AAAAAAAAAAAAAAAAAAAAAA==", time_s=1e9)["create_project"]
    headers = event["headers"]
    signable = signing.Signable.of("POST", headers["sym-date"], "someone")
    target = signing.Target("/symetry/rest/someone/projects", "pid=trial")
    assert headers["sym-date"].startswith("2001-09-09 01:46:40")
    assert signing.verify("AAAAAAAAAAAAAAAAAAAAAA==", signable, [target], headers["authorization"]) == target


def test_no_two_events_share_a_signature_or_a_nonce(events) -> None:
    """Each would be refused as a replay of the other, or tell what the other hides."""
    web = [event for event in events.events().values() if "headers" in event]
    signatures = [event["headers"]["authorization"] for event in web if "authorization" in event["headers"]]
    assert len(set(signatures)) == len(signatures) > 30
    sealed = [event["body"][:32] for event in web if event.get("body", "").startswith("gramian.v2")]
    assert len(set(sealed)) == len(sealed)


def test_events_hold_no_secret_but_those_of_a_made_up_user(events) -> None:
    """They are published with the source."""
    text = json.dumps(events.events())
    assert events.SECRET_KEY not in text
    assert "a long password" not in text
