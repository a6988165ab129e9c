"""From a URL to its tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.registry.opening import Surroundings, open_tree, secret_of
from osiris_mesh.registry.roster import Entry
from osiris_mesh.registry.tree_folder import FolderTree

GATEWAY = (("gateways", "https://one.example,https://two.example"),)


@pytest.mark.parametrize(
    ("url", "options", "kind"),
    [
        ("file:///srv/registry", (), "folder"),
        ("file://localhost/srv/regis%20try", (), "folder"),
        ("/srv/registry", (), "folder"),
        ("git+file:///srv/registry.git", (), "git"),
        ("git+https://git.example.com/r", (("branch", "records"),), "git"),
        ("git@git.example.com:team/registry.git", (), "git"),
        ("https://registry.example.com/tree", (), "http"),
        ("ipns://k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8", GATEWAY, "ipfs"),
        ("ipns://acme.com", GATEWAY, "ipfs"),
    ],
)
async def test_a_url_opens_its_back_end(
    url: str, options: tuple[tuple[str, str], ...], kind: str, tmp_path: Path
) -> None:
    tree = open_tree(Entry("one", url, options=options).check(), Surroundings(tmp_path / "kept"))
    assert (tree.name, tree.kind) == ("one", kind)
    await tree.close()


@pytest.mark.parametrize(
    "url", ["file://elsewhere/srv/registry", "file:relative", "file:///srv/a?b", "file:///srv/%00"]
)
def test_a_folder_is_one_of_this_machine(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder"):
        open_tree(Entry("one", url), Surroundings(tmp_path))


def test_ipfs_without_a_gateway_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_tree(Entry("one", "ipns://acme.com"), Surroundings(tmp_path))
    assert "--gateway" in caught.value.fix


def test_the_ledger_is_whoever_has_one_s_to_open(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="controller"):
        open_tree(Entry("mesh", "ledger:"), Surroundings(tmp_path))
    tree = FolderTree("mesh", tmp_path)
    assert open_tree(Entry("mesh", "ledger:"), Surroundings(tmp_path, ledger=lambda _name: tree)) is tree


def test_a_token_is_read_from_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("osa1secret\n")
    path.chmod(0o600)
    assert secret_of(str(path)) == "osa1secret"
    assert secret_of("") == ""
    path.chmod(0o640)
    with pytest.raises(Conflict, match="640") as caught:
        secret_of(str(path))
    assert "chmod 600" in caught.value.fix
    path.chmod(0o600)
    for damaged in (b"", b" \n", b"two\nlines", b"a" * 9000, "ü".encode()):
        path.write_bytes(damaged)
        with pytest.raises(Conflict, match="no token"):
            secret_of(str(path))
    with pytest.raises(Conflict, match="can't be read"):
        secret_of(str(tmp_path / "none"))
