"""The unit that ``service install`` writes."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh_cli.service import _checked
from osiris_mesh_cli.unit import quoted, unit_text
from tests.cli.conftest import Line

HOMES = ["/var/lib/osiris", '/home/o s/100%$x"\\/.osiris', "/tmp/home"]


def parsed(text: str) -> dict[str, dict[str, str]]:
    unit = configparser.RawConfigParser(strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    return {name: dict(unit.items(name)) for name in unit.sections()}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("system", [True, False])
def test_systemd_takes_it(home: str, system: bool, tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd is not here")
    path = tmp_path / "osiris-test.service"
    # As one of the machine's in both cases: there may be no manager of this user to ask.
    path.write_text(unit_text(Path(home), python=sys.executable, system=system, run_as="root" if system else ""))
    done = subprocess.run([tool, "verify", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in done.stderr.splitlines() if path.name in line] == []


def test_a_wrong_unit_would_be_noticed(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd is not here")
    path = tmp_path / "osiris-test.service"
    text = unit_text(Path("/var/lib/osiris"), python=sys.executable, system=True, run_as="root")
    path.write_text(text.replace("KillMode=mixed", "KillMode=gentle").replace("[Install]", "Nonsense=1\n[Install]"))
    done = subprocess.run([tool, "verify", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert "kill mode" in done.stderr
    assert "Nonsense" in done.stderr


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("system", [True, False])
def test_what_it_says(home: str, system: bool) -> None:
    unit = parsed(unit_text(Path(home), python="/usr/bin/python3", system=system, run_as="ada" if system else ""))
    service = unit["Service"]
    assert service["ExecStart"] == f'"/usr/bin/python3" -P -m osiris_mesh.node --home {quoted(home)}'
    assert (service["Type"], service["Restart"], service["NoNewPrivileges"]) == ("exec", "on-failure", "yes")
    assert unit["Install"]["WantedBy"] == ("multi-user.target" if system else "default.target")
    assert service.get("User") == ("ada" if system else None)
    # The sandbox makes namespaces and mounts /proc in them: nothing may forbid that.
    assert not service.keys() & {
        *("RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "PrivateDevices"),
        "SystemCallFilter",
    }
    assert ("ProtectSystem" in service) is system
    assert ("PrivateTmp" in service) is (system and not home.startswith("/tmp"))


def test_what_a_unit_can_not_hold() -> None:
    with pytest.raises(UsageError):
        quoted("a\nExecStart=/bin/sh")
    assert quoted('a"b\\c%d$e f') == '"a\\"b\\\\c%%d$$e f"'


def test_installing_and_removing(line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "systemd" / "user" / "osiris-mesh.service"
    assert line("service", "install", "--user").code == 3
    shown = line("service", "install", "--user", "--print")
    assert shown.code == 0
    assert "[Service]" in shown.out
    assert not path.exists()
    line.home.mkdir(mode=0o700)
    (line.home / "mesh.json").write_text("{}")
    done = line("service", "install", "--user", "--json")
    assert done.code == 0, done.err
    assert done.json["path"] == str(path)
    assert path.read_text() == done.json["unit"] == shown.out
    assert "enable --now osiris-mesh" in done.err
    removed = line("service", "remove", "--user")
    assert removed.code == 0
    assert "osiris-mesh start --detach" in removed.err
    assert not path.exists()
    assert line("service", "remove", "--user").code == 3
    path.write_text("[Service]\nExecStart=/bin/true\n")
    assert line("service", "remove", "--user").code == 2
    path.write_text(shown.out)
    (line.home / "mesh.json").unlink()
    assert "osiris-mesh start" not in line("service", "remove", "--user").err
    assert line("service", "install", "--user", "--system").code == 2
    assert line("service", "install", "--user", "--name", "a/b").code == 2
    assert line("service", "install", "--user", "--run-as", "ada").code == 2


def test_a_service_of_the_machine_is_printed_with_its_user(line: Line) -> None:
    value = line("service", "install", "--system", "--print", "--run-as", "ada", "--name", "two", "--json").json
    assert value["path"] == "/etc/systemd/system/two.service"
    assert "User=ada\n" in value["unit"]


def test_systemd_gets_an_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, tool = tmp_path / "seen", tmp_path / "systemd-analyze"
    tool.write_text(f"#!/bin/sh\n/usr/bin/env > {seen}\n")
    tool.chmod(0o700)
    monkeypatch.setattr("osiris_mesh_cli.service.shutil.which", lambda _name: str(tool))
    monkeypatch.setenv("OSIRIS_SIGNING_KEY", "secret")
    assert _checked(tmp_path / "osiris-test.service", system=False)
    given = seen.read_text("utf-8")
    assert "PATH=" in given
    assert "secret" not in given
