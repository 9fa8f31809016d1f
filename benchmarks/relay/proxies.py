"""The proxies compared: how each is started in front of one upstream, and which version it is."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.relay.gateway_under_test import USER
from benchmarks.relay.provider import ALGORITHM as PROVIDERS_ALGORITHM, Provider
from benchmarks.support.processes import Child, Children
from trunkline.auth.issuer import ALGORITHM, DevelopmentIssuer
from trunkline.gateway.carrier import IS_BUILT

#: Whose tokens nobody has seen before, by what they are signed with.
STRANGERS = (
    f"trunkline, new {PROVIDERS_ALGORITHM} tokens",
    f"trunkline, new {ALGORITHM} tokens",
)
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy"}
_START_S = 10.0

#: One worker; buffers hold a whole frame of 16 KiB; nothing is logged per request.
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_buffer_size 64k;
      proxy_buffers 8 64k;
      proxy_busy_buffers_size 128k;
      proxy_connect_timeout 10s; proxy_read_timeout 1h; proxy_send_timeout 1h;
    }}
  }}
}}
"""

#: One thread; buffers as HAProxy has them by default (16 KiB).
_HAPROXY = """
global
  maxconn 8192
  nbthread 1
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend front
  bind 127.0.0.1:{port} backlog 2048
  default_backend back
backend back
  server upstream 127.0.0.1:{upstream}
"""


class MissingProxyError(Exception):
    """A proxy to compare with isn't installed, and can't be."""


@dataclass(frozen=True)
class Target:
    """Something to send frames through: a proxy, or the upstream itself."""

    name: str
    child: Child
    port: int
    paths: tuple[str, ...] = ("/",)
    token: str = ""
    new_token: Callable[[], str] | None = None
    #: The same proxy for those who come with a token each, by what their figures are filed under.
    strangers: "Mapping[str, Target]" = field(default_factory=dict)

    def with_tokens(self, most: int) -> "Target":
        """Return the same with as many new tokens at hand: issuing them takes a while."""
        assert self.new_token is not None
        tokens = [self.new_token() for _ in range(most)]
        return replace(self, new_token=tokens.pop)

    def upgrades(
        self, most: int, *, are_strangers: bool = False
    ) -> list[tuple[str, dict[str, str]]]:
        """Return paths and headers of upgrades, for as many connections to take turns with.

        Args:
            most: How many connections there will be.
            are_strangers: Whether each of them has a token that nobody has seen before.
        """
        if self.new_token is None:
            return [(path, {}) for path in self.paths]
        count = most if are_strangers else len(self.paths)
        tokens = [self.new_token() if are_strangers else self.token for _ in range(count)]
        return [
            (self.paths[number % len(self.paths)], {"Authorization": f"Bearer {token}"})
            for number, token in enumerate(tokens)
        ]


def find_proxies() -> dict[str, str]:
    """Return the paths of the C proxies, installing their packages if we may.

    Raises:
        MissingProxyError: Naming the packages.
    """
    missing = [package for name, package in PACKAGES.items() if _find(name) is None]
    if missing:
        _install(missing)
    paths = {name: _find(name) for name in PACKAGES}
    still_missing = [PACKAGES[name] for name, path in paths.items() if path is None]
    if still_missing:
        raise MissingProxyError(_how_to_install(still_missing))
    return {name: path for name, path in paths.items() if path is not None}


def _find(name: str) -> str | None:
    # Debian installs both where a user's PATH doesn't lead.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def _install(packages: list[str]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingProxyError(_how_to_install(packages))
    print(f"installing {' and '.join(packages)} to compare with", file=sys.stderr)
    get = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    # The packages' services aren't wanted; where there is no systemd this keeps them stopped.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (
        [*get, "update"],
        [*get, "install", "-y", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(
            command, check=False, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode:
            raise MissingProxyError(f"{_how_to_install(packages)}\n{done.stdout[-2000:]}")


def _how_to_install(packages: list[str]) -> str:
    return (
        f"the comparison needs {' and '.join(packages)} (names of Debian packages): "
        f"apt-get install --no-install-recommends {' '.join(packages)}"
    )


def versions(paths: Mapping[str, str]) -> dict[str, str]:
    """Return the version of everything compared."""
    # nginx says its version on standard error, "nginx version: nginx/1.22.1".
    nginx = _output(paths["nginx"], "-v").partition("/")[2]
    haproxy = _output(paths["haproxy"], "-v").split()[2]
    relay = "compiled relay" if IS_BUILT else "no compiled relay"
    return {
        "trunkline": f"{version('trunkline')} (Python {sys.version.split()[0]}, uvloop "
        f"{version('uvloop')}, {relay}; default settings)",
        "nginx": f"{nginx.split()[0]} (1 worker, proxy_buffer_size 64k, no access log)",
        "HAProxy": f"{haproxy} (1 thread, mode http, default buffers)",
    }


def _output(*command: str) -> str:
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def start_targets(children: Children, paths: Mapping[str, str], folder: Path) -> list[Target]:
    """Start the upstream and every proxy in front of it; the upstream itself comes first."""
    echo = children.start_python("upstream", "benchmarks.relay.echo_server")
    upstream: int = echo.read()["port"]
    state_dir = folder / "state"
    issuer, provider = DevelopmentIssuer.open(state_dir), Provider()
    gateway = children.start_python(
        "trunkline", "benchmarks.relay.gateway_under_test",
        "--upstream", str(upstream), "--state-dir", str(state_dir),
        "--providers", str(provider.configure(folder / "providers.toml")),
    )  # fmt: skip
    said = gateway.read()
    port, paths_of_ours = said["port"], tuple(said["paths"])
    paths_of_theirs = tuple(said["provider_paths"])
    ours = Target("trunkline", gateway, port, paths_of_ours, issuer.issue(USER),
                  lambda: issuer.issue(USER))  # fmt: skip
    theirs = Target("trunkline", gateway, port, paths_of_theirs, provider.issue(USER),
                    lambda: provider.issue(USER))  # fmt: skip
    return [
        Target("direct", echo, upstream),
        replace(ours, strangers=dict(zip(STRANGERS, (theirs, ours), strict=True))),
        _start_nginx(children, paths["nginx"], folder, upstream),
        _start_haproxy(children, paths["haproxy"], folder, upstream),
    ]


def _start_nginx(children: Children, program: str, folder: Path, upstream: int) -> Target:
    port, config = _free_port(), folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream))
    child = children.start("nginx", program, "-p", str(folder), "-e", "stderr", "-c", str(config))
    _wait_listening(child, port)
    return Target("nginx", child, port)


def _start_haproxy(children: Children, program: str, folder: Path, upstream: int) -> Target:
    port, config = _free_port(), folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, upstream=upstream))
    child = children.start("haproxy", program, "-q", "-db", "-f", str(config))
    _wait_listening(child, port)
    return Target("HAProxy", child, port)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_listening(child: Child, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if child.has_ended:
            raise child.failure("didn't start")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise child.failure(f"doesn't listen after {_START_S:g} s")
