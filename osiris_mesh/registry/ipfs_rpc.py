"""Publishing through a Kubo node's RPC: blocks stored and pinned, and a name pointed at them.

Kubo signs the name's records with a key that never leaves it, and takes one only if its sequence is higher than the
last, under a lock of its own: so two publishers through one Kubo take turns. Source: Kubo's RPC API v0;
blocks travel as a CARv1 archive.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import cbor2

from osiris_mesh.errors import Conflict, Denied, RemoteProtocolError, Unavailable
from osiris_mesh.registry.ipfs_cid import Cid, IpnsName, varint
from osiris_mesh.registry.ipfs_gateway import bounded, checked_url

__all__ = ["Kubo"]

_QUICK_S: Final = 30.0
_PUBLISH_S: Final = 120.0
_MAX_ANSWER: Final = 4 * 1024 * 1024
CAR_BYTES: Final = 16 * 1024 * 1024
_SEQUENCE: Final = "sequence number must be greater"

Arguments = Sequence[tuple[str, str]]


class Kubo:
    """One Kubo node.

    Args:
        session: Makes requests.
        url: Where its RPC is, for example ``http://127.0.0.1:5001``.
        authorization: Value of the Authorization header, or empty; shown nowhere.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, authorization: str = "") -> None:
        self._session = session
        self.url = checked_url(url)
        self._headers = {"authorization": authorization} if authorization else {}

    def __repr__(self) -> str:
        return f"Kubo({self.url})"

    async def version(self) -> str:
        """Return its version.

        Raises:
            Unavailable: It can't be reached.
            Denied: It does not let us.
        """
        return _text(await self._ask("version"), "Version")

    async def keys(self) -> dict[str, str]:
        """Return the ids of its keys, by name; errors as :meth:`version`."""
        answer = await self._ask("key/list")
        items = answer.get("Keys")
        if not isinstance(items, list):
            raise _strange("keys")
        return {_text(item, "Name"): _text(item, "Id") for item in items if isinstance(item, dict)}

    async def make_key(self, name: str) -> IpnsName:
        """Make a new key and return the name it signs for; errors as :meth:`version`."""
        answer = await self._ask("key/gen", [("arg", name), ("type", "ed25519")])
        return IpnsName.parse(_text(answer, "Id"))

    async def store(self, root: Cid, blocks: Mapping[Cid, bytes]) -> None:
        """Store blocks, in one request for each :data:`CAR_BYTES` of them; errors as :meth:`version`.

        Args:
            root: What they belong to.
            blocks: Checked against their ids here and by the Kubo.
        """
        car = _car_header(root)
        for cid, data in blocks.items():
            if len(car) + len(data) > CAR_BYTES:
                await self._import(car)
                car = _car_header(root)
            section = cid.to_bytes() + data
            car += varint(len(section)) + section
        await self._import(car)

    async def _import(self, car: bytes) -> None:
        await self._ask("dag/import", [("pin-roots", "false"), ("silent", "true")], car, timeout_s=_PUBLISH_S)

    async def pin(self, cid: Cid, label: str) -> None:
        """Keep a directory and all in it; errors as :meth:`version`."""
        await self._ask("pin/add", [("arg", str(cid)), ("name", label)], timeout_s=_PUBLISH_S)

    async def pinned(self, label: str) -> dict[Cid, str]:
        """Return what is kept under labels that begin so, and its label; errors as :meth:`version`."""
        arguments = [("names", "true"), ("name", label), ("type", "recursive")]
        keys = (await self._ask("pin/ls", arguments)).get("Keys") or {}
        if not isinstance(keys, dict):
            raise _strange("pins")
        labels = {text: str(pin.get("Name")) for text, pin in keys.items() if isinstance(pin, dict)}
        return {Cid.parse(text): found for text, found in labels.items() if found.startswith(label)}

    async def unpin(self, cid: Cid) -> None:
        """Keep a directory no longer; errors as :meth:`version`."""
        await self._ask("pin/rm", [("arg", str(cid))])

    async def point(self, key: str, cid: Cid, *, sequence: int, lifetime_s: int, ttl_s: int) -> None:
        """Let a key's name point at a directory.

        Args:
            key: Name of the key in that Kubo.
            cid: The directory.
            sequence: Of the record; higher than the last.
            lifetime_s: How long the record holds.
            ttl_s: How long others may go without asking again.

        Raises:
            Conflict: There is a record of this sequence or a higher one: somebody was faster.
            Unavailable: It can't be reached; ``maybe`` says whether the name may point there all the same.
            Denied: It does not let us.
        """
        arguments = [
            ("arg", f"/ipfs/{cid}"),
            ("key", key),
            ("sequence", str(sequence)),
            ("lifetime", f"{lifetime_s}s"),
            ("ttl", f"{ttl_s}s"),
            ("resolve", "false"),
            # A Kubo that is offline now keeps the record and announces it later.
            ("allow-offline", "true"),
        ]
        try:
            await self._ask("name/publish", arguments, timeout_s=_PUBLISH_S, changes=True)
        except Unavailable as error:
            if _SEQUENCE in error.what:
                raise Conflict(f"the name points elsewhere since it was read: sequence {sequence} is taken") from None
            raise

    async def _ask(
        self,
        command: str,
        arguments: Arguments = (),
        data: bytes | None = None,
        *,
        timeout_s: float = _QUICK_S,
        changes: bool = False,
    ) -> dict[str, Any]:
        form = None
        if data is not None:
            form = aiohttp.FormData()
            form.add_field("file", data, filename="file", content_type="application/octet-stream")
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.post(
                    f"{self.url}/api/v0/{command}",
                    params=list(arguments),
                    data=form,
                    headers=self._headers,
                    allow_redirects=False,
                ) as answer,
            ):
                body = await bounded(answer.content, _MAX_ANSWER)
                status = answer.status
        except TimeoutError:
            raise Unavailable(f"{command} of {self.url} took longer than {timeout_s:g} s", maybe=changes) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = f"the Kubo at {self.url} could not be asked: {error!r}"
            raise Unavailable(text, fix="start it with `ipfs daemon`", maybe=changes) from None
        if status in {401, 403, 404, 405}:
            raise Denied(
                f"the Kubo at {self.url} does not let us use {command} ({status})",
                fix="see API.Authorizations in its settings",
            )
        value = _json(body) if body.strip() else {}
        if status != 200:
            raise Unavailable(f"{command} of {self.url} failed: {value.get('Message', status)}", maybe=False)
        return value


def _car_header(root: Cid) -> bytes:
    """Return the beginning of a content-addressable archive, version 1."""
    link = cbor2.CBORTag(42, b"\0" + root.to_bytes())
    header = cbor2.dumps({"roots": [link], "version": 1}, canonical=True)
    return varint(len(header)) + header


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _strange("a document") from None
    if not isinstance(value, dict):
        raise _strange("a document")
    return value


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        raise _strange(key)
    return text


def _strange(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"a Kubo answered with something else than {what}")
