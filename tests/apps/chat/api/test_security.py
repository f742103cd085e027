"""Who may use the server: Host, Origin, API key, size of bodies, and the headers of every answer."""

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.chat.api.origins import host_problem
from mlx_suite_apps.chat.api.security import check_exposure, secured
from mlx_suite_apps.chat.api.settings import ServerSettings


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of bytes received."""
    body = await Request(scope, receive).body()
    await JSONResponse({"bytes": len(body)})(scope, receive, send)


def client(base_url: str = "http://127.0.0.1:8080", **settings: object) -> TestClient:
    return TestClient(secured(echo, ServerSettings(**settings)), base_url=base_url)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "[::1]:8080", "[::1]"])
def test_loopback_names_are_served_on_any_port(host: str) -> None:
    assert client().get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "user@127.0.0.1", "", "a b", "[::1"],
)
def test_a_foreign_host_is_refused(host: str) -> None:
    answer = client().get("/v1/models", headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host_not_allowed"


def test_a_host_named_in_the_settings_is_served() -> None:
    named = client(allowed_hosts=("Studio.local",))
    assert named.get("/", headers={"Host": "studio.local:8080"}).status_code == 200
    assert named.get("/", headers={"Host": "other.local:8080"}).status_code == 403


def test_a_server_beyond_loopback_is_served_under_its_own_address() -> None:
    listening = client("http://192.168.1.5:8080", host="192.168.1.5")
    assert listening.get("/").status_code == 200
    assert listening.get("/", headers={"Host": "192.168.1.6:8080"}).status_code == 403


def test_a_server_on_all_addresses_is_served_under_the_one_that_was_called() -> None:
    settings = ServerSettings(host="0.0.0.0", no_key=True)

    def problem(host: str) -> str | None:
        scope = {"type": "http", "headers": [(b"host", host.encode())], "server": ("192.168.1.5", 8080)}
        return host_problem(scope, settings)

    assert (problem("192.168.1.5:8080"), problem("localhost")) == (None, None)
    assert problem("evil.example:8080") == (
        "the host 'evil.example' is not one of this server's names: "
        "use 127.0.0.1 or localhost, or start the server with this name among its allowed hosts"
    )
    assert problem("0.0.0.0:8080") is not None


def test_an_address_is_foreign_while_the_server_listens_on_loopback() -> None:
    assert client("http://192.168.1.5:8080").get("/").status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:9999",
        "https://127.0.0.1:8080",
        "http://localhost:8080",
        "file://",
    ],
)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    answer = client().post("/v1/chat/completions", headers={"Origin": origin}, json={})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_may_call_its_own_server() -> None:
    assert client().post("/", headers={"Origin": "http://127.0.0.1:8080"}).status_code == 200


def test_a_script_tag_of_another_site_loads_nothing_but_a_link_opens_the_page() -> None:
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client().get("/v1/models", headers=embedded).status_code == 403
    assert client().get("/", headers=linked).status_code == 200


def test_an_allowed_origin_gets_its_name_back_and_no_other_origin_does() -> None:
    shared = client(cors_origins=("https://app.example",))
    answer = shared.get("/v1/models", headers={"Origin": "https://app.example"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
    assert shared.get("/v1/models", headers={"Origin": "https://app.example.evil"}).status_code == 403


def test_a_preflight_of_an_allowed_origin_is_answered_with_the_headers_it_names() -> None:
    shared = client(cors_origins=("https://app.example",), api_key="secret")
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    answer = shared.options("/v1/messages", headers={"Origin": "https://app.example", **asked})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, PATCH, DELETE"
    assert shared.options("/v1/messages", headers={"Origin": "https://evil.example", **asked}).status_code == 403


def test_every_answer_to_an_allowed_origin_can_be_read_by_it_also_a_refusal() -> None:
    answer = client(cors_origins=("https://app.example",), api_key="k").get(
        "/", headers={"Origin": "https://app.example"}
    )
    refused = client(cors_origins=("https://app.example",), api_key="k").get(
        "/v1/models", headers={"Origin": "https://app.example"}
    )
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://app.example")


def test_the_key_may_come_as_bearer_or_as_x_api_key() -> None:
    keyed = client(api_key="secret")
    assert keyed.get("/v1/models", headers={"Authorization": "Bearer secret"}).json() == {"bytes": 0}
    assert keyed.get("/v1/models", headers={"X-Api-Key": "secret"}).json() == {"bytes": 0}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer Secret"},
        {"Authorization": "Basic secret"},
        {"X-Api-Key": ""},
        {"X-Api-Key": "sécret"},
    ],
)
def test_without_the_key_nothing_is_answered(headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = client(api_key="secret").get("/v1/models", headers=raw)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_missing_key_is_reported_in_the_form_of_each_protocol() -> None:
    keyed = client(api_key="secret")
    text = "an API key is needed: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"
    openai = keyed.post("/v1/chat/completions")
    anthropic = keyed.post("/v1/messages")
    assert openai.json() == {
        "error": {"message": text, "type": "authentication_error", "param": None, "code": "missing_api_key"}
    }
    assert anthropic.json() == {
        "type": "error",
        "error": {"type": "authentication_error", "message": text},
        "request_id": anthropic.headers["request-id"],
    }
    assert keyed.post("/api/chat").json() == {"error": text}


def test_only_the_page_itself_is_shown_without_a_key() -> None:
    keyed = client(api_key="secret")
    assert [keyed.get(path).status_code for path in ("/", "/page/static/page.js", "/favicon.ico")] == [200, 200, 200]
    closed = ["/health", "/metrics", "/openapi.json", "/page/events", "/conversations", "/page/static", "/%2e/"]
    assert {keyed.get(path).status_code for path in closed} == {401}
    assert keyed.post("/").status_code == 401


def test_a_body_over_the_limit_is_refused_by_its_announced_length() -> None:
    answer = client(max_body=10).post("/v1/messages", content=b"x" * 11)
    assert answer.status_code == 413
    assert answer.json()["error"] == {"type": "request_too_large", "message": "the body is larger than 10 bytes"}
    assert client(max_body=10).post("/v1/messages", content=b"x" * 10).json() == {"bytes": 10}


def test_a_body_without_a_length_is_counted_while_it_arrives() -> None:
    pieces = [b"x" * 6, b"x" * 6]
    assert client(max_body=10).post("/", content=iter(pieces)).status_code == 413
    assert client(max_body=12).post("/", content=iter(pieces)).json() == {"bytes": 12}


def test_an_application_that_answers_an_overlong_body_itself_is_overruled() -> None:
    async def careless(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await Request(scope, receive).body()
        except Exception:
            await Response("bad", status_code=400)(scope, receive, send)

    limited = TestClient(secured(careless, ServerSettings(max_body=3)), base_url="http://127.0.0.1")
    assert limited.post("/", content=iter([b"xxxx"])).status_code == 413


def test_every_answer_carries_the_security_headers() -> None:
    for answer in (client().get("/"), client().get("/", headers={"Host": "evil.example"})):
        assert answer.headers["content-security-policy"] == (
            "default-src 'self'; img-src 'self' data:; connect-src 'self'; style-src 'self'; script-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_a_websocket_is_closed() -> None:
    with pytest.raises(WebSocketDisconnect) as error, client().websocket_connect("/"):
        pass
    assert error.value.code == 1008


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.local"])
def test_a_server_for_other_machines_needs_a_key_or_the_flag(host: str) -> None:
    with pytest.raises(UserError, match="no API key is set") as error:
        check_exposure(ServerSettings(host=host))
    assert error.value.fix == "set --api-key, or pass --no-key if everybody may use it"
    check_exposure(ServerSettings(host=host, api_key="secret"))
    check_exposure(ServerSettings(host=host, no_key=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_a_server_for_this_machine_needs_no_key(host: str) -> None:
    check_exposure(ServerSettings(host=host))


@pytest.mark.parametrize("origin", ["*", "app.example", "https://app.example/path", "null"])
def test_a_cors_origin_is_named_in_full(origin: str) -> None:
    with pytest.raises(UserError, match="is no origin of a page"):
        check_exposure(ServerSettings(cors_origins=(origin,)))
