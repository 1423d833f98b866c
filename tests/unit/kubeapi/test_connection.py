"""How the API server is found, who we are there, and what its answers mean."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.errors import ClusterError, ConflictError, DeniedError, InvalidInputError, RejectedError, UnreachableError
from arbiter.kubeapi import connection as connection_module
from arbiter.kubeapi.access import router_rules
from arbiter.kubeapi.connection import Connection
from arbiter.kubeapi.reading import get, list_all
from arbiter.kubeapi.resources import CONFIG_MAPS, ENDPOINT_SLICES, Resource, Selection
from tests.unit.kubeapi.api_server import Answer, ApiServer, Asked, Scripted, connection_to, named

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path


def run(story: Coroutine[None, None, None]) -> None:
    """Run a story that must not take longer than a test may."""

    async def limited() -> None:
        await asyncio.wait_for(story, 10.0)

    asyncio.run(limited())


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for the loopback and its key, and beside it another one that nobody uses."""
    folder = tmp_path_factory.mktemp("authority")
    for name in ("server", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt"), "-days", "2"]
        command += ["-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  openssl with our own arguments
    return folder / "server.crt", folder / "other.crt"


class Guarded(ApiServer):
    """Knows one token."""

    def __init__(self, token: str = "first") -> None:  # noqa: S107  a test's
        """Take the token."""
        super().__init__()
        self.token = token

    async def answer(self, asked: Asked, answer: Answer) -> None:
        """Answer an object to whoever shows the token."""
        if asked.headers.get("authorization", "").lower() == f"bearer {self.token}":
            await answer.whole(named("routes", 5))
        else:
            await answer.failure(401, "Unauthorized")


def tls(certificate: Path) -> ssl.SSLContext:
    """The server's end."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


def account(server: ApiServer, folder: Path, token: str, authority: Path) -> Connection:
    """A service account's folder, and the connection of a pod that has it."""
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_text(authority.read_text())
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
    return Connection.in_cluster(str(folder), environ)


def test_a_pod_shows_its_token_and_shows_the_new_one_once_the_old_is_unknown(
    tmp_path: Path, certificates: tuple[Path, Path]
) -> None:
    """A release of the library asked without any token; and a token that was renewed must not wait for its minute."""

    async def story() -> None:
        server, second = Guarded(), "second"
        async with server.up(tls=tls(certificates[0])):
            connection = account(server, tmp_path, "first\n", certificates[0])
            assert (await get(connection, CONFIG_MAPS, "team", "routes") or {})["metadata"]["name"] == "routes"
            assert server.asked[0].headers["user-agent"].startswith("arbiter/")
            server.token = second
            with pytest.raises(DeniedError, match="401: Unauthorized"):
                await get(connection, CONFIG_MAPS, "team", "routes")
            (tmp_path / "token").write_text(second)
            assert await get(connection, CONFIG_MAPS, "team", "routes")
            await connection.close()

    run(story())


def test_an_authority_that_was_renewed_is_read_anew(tmp_path: Path, certificates: tuple[Path, Path]) -> None:
    """A cluster that renews its certificate must not need its routers restarted."""

    async def story() -> None:
        server = Guarded()
        async with server.up(tls=tls(certificates[0])):
            connection = account(server, tmp_path, "first", certificates[1])
            with pytest.raises(DeniedError, match="certificate is not trusted"):
                await get(connection, CONFIG_MAPS, "team", "routes")
            (tmp_path / "ca.crt").write_text(certificates[0].read_text())
            assert await get(connection, CONFIG_MAPS, "team", "routes")
            await connection.close()

    run(story())


@pytest.mark.parametrize("missing", ["token", "ca.crt", "environment"])
def test_a_pod_without_an_account_is_denied_until_it_has_one(
    tmp_path: Path, certificates: tuple[Path, Path], missing: str
) -> None:
    """It can be mended while the router serves on, so it is an error of asking and not one that ends it."""

    async def story() -> None:
        server = Guarded()
        async with server.up(tls=tls(certificates[0])):
            connection = account(server, tmp_path, "first", certificates[0])
            if missing == "environment":
                connection = Connection.in_cluster(str(tmp_path), {})
            else:
                (tmp_path / missing).unlink()
            with pytest.raises(DeniedError, match="credentials cannot be read"):
                await get(connection, CONFIG_MAPS, "team", "routes")
            with pytest.raises(InvalidInputError, match=r"^service account"):
                await connection.open()

    run(story())


def test_a_token_that_vanishes_later_is_an_error_of_asking(
    tmp_path: Path, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library reads it again by itself, and its errors must not get past this room."""

    async def story() -> None:
        server = Guarded()
        async with server.up(tls=tls(certificates[0])):
            connection = account(server, tmp_path, "first", certificates[0])
            assert await get(connection, CONFIG_MAPS, "team", "routes")
            (tmp_path / "token").write_text("")
            with pytest.raises(DeniedError, match="token cannot be read"):
                await get(connection, CONFIG_MAPS, "team", "routes")
            await connection.close()

    loader = "kubernetes.aio.config.incluster_config.InClusterConfigLoader"
    monkeypatch.setattr(f"{loader}.token_expires_at", property(expired, lambda *_: None), raising=False)
    run(story())


def expired(_: object) -> Any:  # noqa: ANN401  the library compares it with its own clock
    """A moment that has always passed."""

    class Passed:
        def __le__(self, _: object) -> bool:
            return True

    return Passed()


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        pytest.param("absent", "Expected object with name absent in .* list", id="no such context"),
        pytest.param("nowhere", "Expected object with name missing in .* list", id="no such cluster"),
    ],
)
def test_a_mistake_in_a_kubeconfig_is_told_at_once(tmp_path: Path, context: str, problem: str) -> None:
    """A person who starts a router by hand is told, instead of seeing it wait."""

    async def story() -> None:
        connection_to(Guarded(), tmp_path)
        connection = Connection.kubeconfig(tmp_path / "kubeconfig", context)
        with pytest.raises(InvalidInputError, match=problem):
            await connection.open()
        with pytest.raises(InvalidInputError, match="there is no file"):
            await Connection.kubeconfig(tmp_path / "absent").open()

    run(story())


def test_a_connection_can_be_used_again_after_it_was_closed(tmp_path: Path) -> None:
    """Closing is for the end and for new credentials, and both are one thing."""

    async def story() -> None:
        server = Guarded()
        async with server.up():
            connection = connection_to(server, tmp_path, "first")
            await connection.open()
            await connection.close()
            assert await get(connection, CONFIG_MAPS, "team", "routes")
            await connection.close()
            await connection.close()

    run(story())


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, "bad selector", RejectedError),
        (401, {"message": "who are you"}, DeniedError),
        (403, {"message": "you may not"}, DeniedError),
        (404, {"message": "no such kind"}, RejectedError),
        (408, "", UnreachableError),
        (409, {"message": "it was changed"}, ConflictError),
        (410, "", UnreachableError),
        (422, "", RejectedError),
        (429, "", UnreachableError),
        (500, "<html>", UnreachableError),
        (500, {"message": "failed to create typed patch object (a/b; /v1, Kind=ConfigMap): .dta"}, RejectedError),
        (503, {"message": "starting"}, UnreachableError),
        (200, "<html>", UnreachableError),
        (200, [], UnreachableError),
        (200, {"kind": "ConfigMap"}, UnreachableError),
        (200, {"metadata": {}, "items": []}, UnreachableError),
    ],
)
def test_an_answer_says_who_can_mend_it(tmp_path: Path, status: int, body: object, kind: type[ClusterError]) -> None:
    """The caller decides by the type, whatever stands in the answer."""

    async def step(_: Asked, answer: Answer) -> None:
        await answer.whole(body, status)

    async def story() -> None:
        server = Scripted(step, step)
        async with server.up():
            connection = connection_to(server, tmp_path)
            with pytest.raises(kind) as raised:
                await list_all(connection, Selection(CONFIG_MAPS, "team"))
            assert type(raised.value) is kind or status == 410
            if isinstance(body, dict) and "message" in body:
                assert body["message"] in str(raised.value)
            await connection.close()

    run(story())


def test_an_object_that_is_not_there_is_none_and_other_refusals_are_errors(tmp_path: Path) -> None:
    """Absence is an answer."""

    async def absent(_: Asked, answer: Answer) -> None:
        await answer.failure(404, "not found")

    async def refused(_: Asked, answer: Answer) -> None:
        await answer.failure(405, "not so")

    async def story() -> None:
        server = Scripted(absent, refused)
        async with server.up():
            connection = connection_to(server, tmp_path)
            assert await get(connection, CONFIG_MAPS, "team", "routes") is None
            with pytest.raises(RejectedError, match="not so"):
                await get(connection, CONFIG_MAPS, "team", "routes")
            await connection.close()

    run(story())


def test_connections_notice_a_server_whose_machine_vanished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch is silent for minutes; without probes a router would follow nobody for as long."""
    made: list[socket.socket] = []
    make = connection_module.kept_alive

    def noted(address: tuple[Any, ...]) -> socket.socket:
        made.append(make(address))
        return made[-1]

    async def story() -> None:
        server = Guarded()
        async with server.up():
            connection = connection_to(server, tmp_path, "first")
            assert await get(connection, CONFIG_MAPS, "team", "routes")
            options = dict(connection_module.KEEPALIVE)
            found = {name: made[0].getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in options}
            assert found == options
            assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            await connection.close()

    monkeypatch.setattr(connection_module, "kept_alive", noted)
    run(story())


def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    """A refused connection and one that is cut before its answer."""

    async def cut(_: Asked, answer: Answer) -> None:
        await answer.cut()

    async def story() -> None:
        server = Scripted(cut, cut)
        async with server.up():
            connection = connection_to(server, tmp_path)
            with pytest.raises(UnreachableError):
                await get(connection, CONFIG_MAPS, "team", "routes")
        with pytest.raises(UnreachableError, match="Cannot connect"):
            await get(connection, CONFIG_MAPS, "team", "routes")
        await connection.close()

    run(story())


@pytest.mark.parametrize(
    ("resource", "namespace", "name", "path"),
    [
        (CONFIG_MAPS, None, None, "/api/v1/configmaps"),
        (CONFIG_MAPS, "team", "routes", "/api/v1/namespaces/team/configmaps/routes"),
        (ENDPOINT_SLICES, "team", None, "/apis/discovery.k8s.io/v1/namespaces/team/endpointslices"),
        (Resource("", "v1", "nodes"), None, "a/b", "/api/v1/nodes/a%2Fb"),
    ],
)
def test_where_objects_are_found(resource: Resource, namespace: str | None, name: str | None, path: str) -> None:
    """A name never leads to another address."""
    assert resource.path(namespace, name) == path


def test_a_selection_is_told_in_words() -> None:
    """It stands in messages to people."""
    assert str(Selection(CONFIG_MAPS)) == "configmaps in all namespaces"
    chosen = Selection(CONFIG_MAPS, "team", labels="a=b", fields="metadata.name=c")
    assert str(chosen) == "configmaps in team with a=b, metadata.name=c"


def test_a_router_may_read_its_own_table_and_endpoints_and_no_more() -> None:
    """The role in the chart is made from this; a router that is broken into reads no other ConfigMap and no Secret."""
    assert [rule.to_fields() for rule in router_rules("pool-routes")] == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": ["get", "list", "watch"],
            "resourceNames": ["pool-routes"],
        },
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
    ]
