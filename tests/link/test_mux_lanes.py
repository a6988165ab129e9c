"""An urgent stream opened after a bulk one overtakes it, its OPEN included."""

from __future__ import annotations

import pytest

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.link.frames import FLAG_END, open_frame
from osiris_mesh.link.mux import Mux, Opened


def test_an_urgent_open_may_overtake_a_bulk_one() -> None:
    here, there = Mux(), Mux()
    here.open("bulk", b"1", end=True)
    here.open("urgent", b"2", end=True, urgent=True)
    data = b"".join(here.take(1 << 20))
    methods = [event.stream.method for event in there.receive(data) if isinstance(event, Opened)]
    assert methods == ["urgent", "bulk"]


def test_within_a_lane_streams_open_in_order() -> None:
    there = Mux()
    there.receive(open_frame(2, FLAG_END, "a", {}, b""))
    with pytest.raises(RemoteProtocolError):
        there.receive(open_frame(1, FLAG_END, "a", {}, b""))
