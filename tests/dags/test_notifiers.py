"""Alerts through Airflow's notifiers: to a receiver that verifies signatures by itself, on a real ledger."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_string
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nightbatch.airflow.deadlines import night_is_late
from nightbatch.airflow.hooks import provider_for
from nightbatch.airflow.notifiers import notifiers, tell
from nightbatch.airflow.tasks import RESULTS
from nightbatch.batches import submission
from nightbatch.core import allowed_hosts
from nightbatch.core.errors import ConfigurationError, Transient
from nightbatch.core.ledger import Alert, RunParams
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store, open_store
from tests.providers.proxies import proxying

DAGS = Path(__file__).parents[2] / "dags"
KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
ODD = "Batch 7 {{ 7*7 }} <b>{% raw %}</b> & <!channel> is {{ alert.id }} overdue."
WEBHOOK: list[dict[str, Any]] = [{"webhook": {}}]


def verify(headers: dict[str, str], body: bytes, key: bytes = KEY) -> None:
    """As the spec tells a receiver to (standard-webhooks/spec, "Verifying webhook authenticity"); nothing of ours in it."""
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    version, _, signature = headers["webhook-signature"].partition(",")
    assert version == "v1"
    assert hmac.compare_digest(base64.b64decode(signature), hmac.new(key, content, hashlib.sha256).digest())
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 300


@dataclass
class Receiver:
    """An HTTP server on loopback; ``answers`` are the statuses to come, then 204."""

    url: str
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(body)["data"] for _, body in self.got]


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    record = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            record.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = record.answers.pop(0) if record.answers else 204
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("location", f"{record.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that does not trust the certificate hangs up; the test sees that at the client."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "https" if tls else "http"
    record.url = f"{scheme}://127.0.0.1:{server.server_port}/canary-in-the-path"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def store(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("NIGHTBATCH_DSN", dsn)
    with open_store(dsn) as opened:
        yield opened


@pytest.fixture
def connected(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    connect(monkeypatch, host=receiver.url, password=SECRET)
    return receiver


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str = "nightbatch_webhook", **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": "http", **fields}))


def settings(*entries: dict[str, Any]) -> Settings:
    return Settings(notifiers=json.dumps(entries), allowed_hosts="127.0.0.1")


def an_alert(message: str = ODD) -> Alert:
    return Alert(5, "overdue", "7", message, datetime(2026, 11, 24, 2, tzinfo=UTC), None, None, None)


def send(entry: dict[str, Any], alert: Alert | None = None) -> None:
    for sender in notifiers(settings(entry)).values():
        sender(alert or an_alert())


# -- the webhook


def test_a_webhook_is_signed_as_the_standard_says(connected: Receiver) -> None:
    send({"webhook": {}})
    ((headers, body),) = connected.got
    verify(headers, body)
    with pytest.raises(AssertionError):
        verify(headers, body.replace(b"overdue", b"0verdue"))
    with pytest.raises(AssertionError):
        verify(headers, body, key=b"another")
    assert headers["content-type"] == "application/json"
    assert "." not in headers["webhook-id"]
    assert json.loads(body) == {
        "type": "nightbatch.alert",
        "timestamp": "2026-11-24T02:00:00+00:00",
        "data": {
            "id": 5, "kind": "overdue", "subject": "7", "title": f"overdue: {ODD}", "message": ODD,
            "raised_at": "2026-11-24T02:00:00+00:00",
        },
    }  # fmt: skip


def test_a_plain_secret_is_taken_as_it_is(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "my_hook", host=receiver.url, password="a plain sëcret")
    send({"webhook": {"conn_id": "my_hook"}})
    ((headers, body),) = receiver.got
    verify(headers, body, key="a plain sëcret".encode())


def test_each_try_of_an_alert_has_one_id_and_each_alert_its_own(connected: Receiver, store: Store) -> None:
    connected.answers = [503, 204, 204]
    store.raise_alert("overdue", "1", "Batch 1 is overdue.")
    tell(store, settings(*WEBHOOK))
    tell(store, settings(*WEBHOOK))
    store.raise_alert("overdue", "2", "Batch 2 is overdue.")
    tell(store, settings(*WEBHOOK))
    tell(store, settings(*WEBHOOK))
    first, again, other = [headers["webhook-id"] for headers, _ in connected.got]
    assert first == again != other
    for headers, body in connected.got:
        verify(headers, body)


@pytest.mark.parametrize(
    ("status", "words"), [(302, "302, and redirects are not followed"), (410, "410"), (500, "500"), (199 + 200, "399")]
)
def test_what_is_not_taken_is_sent_again(connected: Receiver, status: int, words: str) -> None:
    connected.answers = [status]
    with pytest.raises(Transient, match=rf"^the receiver answered {words}"):
        send({"webhook": {}})
    assert len(connected.got) == 1, "nothing is sent to where a redirect points"


def test_a_receiver_that_is_not_there_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    connect(monkeypatch, host=f"http://127.0.0.1:{port}/canary", password=SECRET)
    with pytest.raises(Transient, match=r"^the receiver did not answer: ConnectError$"):
        send({"webhook": {}})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": "http://127.0.0.1:1/"}, "needs the URL as its host and a signing secret as its password"),
        ({"password": SECRET}, "needs the URL as its host"),
        ({"host": "127.0.0.1:1", "password": SECRET}, "must be a whole URL"),
        ({"host": "ftp://127.0.0.1/", "password": SECRET}, "must be a whole URL"),
        ({"host": "http://127.0.0.1:nine/", "password": SECRET}, "must be a whole URL"),
        ({"host": "http://example.com/canary", "password": SECRET}, "must begin with https://, unless"),
        ({"host": "http://127.0.0.1:1/", "password": "whsec_canary!"}, "what follows is not base64"),
    ],
)
def test_a_connection_that_will_not_do_says_what_to_mend(
    fields: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, **fields)
    with pytest.raises(ConfigurationError, match=words) as refused:
        send({"webhook": {}})
    assert "canary" not in str(refused.value)


def test_a_webhook_without_a_connection_says_so() -> None:
    with pytest.raises(ConfigurationError, match="there is no Airflow connection 'nowhere'"):
        send({"webhook": {"conn_id": "nowhere"}})


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]", "0x7f000001", "[::ffff:10.0.0.1]"]
)
def test_a_webhook_into_the_own_network_is_refused(
    host: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NIGHTBATCH_ALLOWED_HOSTS")
    port = receiver.url.rsplit(":", 1)[1]
    connect(monkeypatch, host=f"https://{host}:{port}", password=SECRET)
    with pytest.raises(ConfigurationError, match=r"private or local address.*NIGHTBATCH_ALLOWED_HOSTS"):
        send({"webhook": {}})
    assert receiver.got == []


@pytest.mark.fault(54)
def test_a_name_that_changes_its_address_is_called_where_it_was_looked_at(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: whatever a second look-up would say, there is none."""
    real, looked = socket.getaddrinfo, []

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name == "receiver.test":
            looked.append(name)
            host = "127.0.0.1" if len(looked) == 1 else "127.0.0.66"
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("NIGHTBATCH_ALLOWED_HOSTS", "receiver.test")
    url = receiver.url.replace("127.0.0.1", "receiver.test")
    connect(monkeypatch, host=url, password=SECRET)
    send({"webhook": {}})
    ((headers, body),) = receiver.got
    verify(headers, body)
    assert looked == ["receiver.test"]
    assert headers["host"] == url.split("/")[2]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each its own authority, for one name."""
    folder = tmp_path_factory.mktemp("tls")
    return {name: _certificate(folder / f"{name}.pem", name) for name in ("receiver.test", "other.test")}


def _certificate(path: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, pkcs8, plain) + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def over_tls(name: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a server with this certificate gets when ``name`` is called, which leads to it."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **o: real("127.0.0.1" if host == name else host, *a, **o)
    )
    monkeypatch.setenv("NIGHTBATCH_ALLOWED_HOSTS", name)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    with receiving(server) as receiver:
        connect(monkeypatch, host=receiver.url.replace("127.0.0.1", name), password=SECRET)
        try:
            send({"webhook": {}})
        finally:
            assert not receiver.got or receiver.got[0][0]["host"].startswith(name)
        return receiver.got


def trust(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


def test_tls_is_the_names_though_the_address_is_called(
    certificates: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(certificates["receiver.test"], monkeypatch)
    ((headers, body),) = over_tls("receiver.test", certificates["receiver.test"], monkeypatch)
    verify(headers, body)


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_webhook_goes_the_way_of_its_connection_and_carries_its_headers(
    certificates: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    certificate = certificates["receiver.test"]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    extra = {"headers": {"Authorization": "Bearer canary", "X-Team": "search"}, "ca_file": str(certificate)}
    with receiving(server) as receiver, proxying(kind) as proxy:
        url = receiver.url.replace("127.0.0.1", "receiver.test")  # a name that only the proxy knows
        for told in (extra | {"proxy": f"{kind}://{proxy.host}"}, extra):
            connect(monkeypatch, host=url, password=SECRET, extra=told)
            send({"webhook": {}})
            monkeypatch.setenv("ALL_PROXY", f"{kind}://{proxy.host}")
        monkeypatch.setenv("NO_PROXY", "receiver.test")
        with pytest.raises(Transient, match="cannot be resolved"):
            send({"webhook": {}})
    assert len(proxy.asked) == len(receiver.got) == 2
    for headers, body in receiver.got:
        verify(headers, body)
        assert (headers["authorization"], headers["x-team"]) == ("Bearer canary", "search")


def test_a_proxy_leads_no_webhook_into_the_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying("http") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://{proxy.host}")
        for host in ("metadata.internal", "169.254.169.254", "localhost"):
            connect(monkeypatch, host=f"https://{host}/x", password=SECRET)
            with pytest.raises(ConfigurationError, match="private or local address"):
                send({"webhook": {}})
    assert proxy.asked == []


def test_an_extra_of_a_webhook_that_is_not_known_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, host="https://receiver.test", password=SECRET, extra={"header": {"x": "canary"}})
    with pytest.raises(ConfigurationError, match="'header' of the connection 'nightbatch_webhook'") as refused:
        send({"webhook": {}})
    assert "canary" not in str(refused.value)


def test_a_certificate_that_nobody_vouches_for_is_refused(
    certificates: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Transient, match="its certificate is not one that is believed here"):
        over_tls("receiver.test", certificates["receiver.test"], monkeypatch)


def test_another_names_certificate_is_refused(certificates: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    trust(certificates["other.test"], monkeypatch)
    with pytest.raises(Transient, match="its certificate is not one that is believed here"):
        over_tls("receiver.test", certificates["other.test"], monkeypatch)


# -- other notifiers

TEAM = '''
from pathlib import Path
from airflow.sdk import BaseNotifier

class Lines(BaseNotifier):
    """Writes a line for each alert."""
    template_fields = ("text",)

    def __init__(self, path, text="{{ alert.kind }} | {{ alert.message }}", **kwargs):
        super().__init__(**kwargs)
        self.path, self.text = path, text

    def notify(self, context):
        with Path(self.path).open("a") as file:
            file.write(self.text + "\\n")

class Broken(BaseNotifier):
    """Fails with a secret in its error."""
    def notify(self, context):
        raise RuntimeError("token canary-4711 is wrong")

class Unmakeable(BaseNotifier):
    """Its constructor fails with a secret in its error."""
    def __init__(self, **kwargs):
        raise ValueError("token canary-4711 is wrong")

    def notify(self, context):
        pass

class OnlyAsync(BaseNotifier):
    """Nothing that a task could call."""
    async def async_notify(self, context):
        pass

class Stranger:
    """No notifier."""
'''


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the notifier ``nightbatch_test_team.Lines`` writes."""
    (tmp_path / "nightbatch_test_team.py").write_text(TEAM)
    (tmp_path / "nightbatch_test_broken.py").write_text("raise RuntimeError('canary-4711')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "lines"


def test_a_notifier_of_the_teams_own_gets_the_text_as_it_is(lines: Path) -> None:
    send({"nightbatch_test_team.Lines": {"path": str(lines)}})
    send({"nightbatch_test_team.Lines": {"path": str(lines), "text": "{{ alert.title }} ({{ 7*7 }})"}})
    assert lines.read_text() == f"overdue | {ODD}\noverdue: {ODD} (49)\n"


def test_a_title_is_one_short_line(lines: Path) -> None:
    send(
        {"nightbatch_test_team.Lines": {"path": str(lines), "text": "{{ alert.title }}"}},
        an_alert("Subject:\r\nBcc: everybody@example.com\n" + "x" * 500),
    )
    (line,) = lines.read_text().splitlines()
    assert line.startswith("overdue: Subject: Bcc: everybody@example.com xxx") and line.endswith("x…")
    assert len(line) == len("overdue: ") + 120


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("mail", "it is no JSON"),
        ('{"mail": {}}', "its entry 1 is not one name with an object"),
        ('[{"mail": {}, "slack": {}}]', "its entry 1 is not"),
        ('[{"webhook": {}}, {"mail": "data@example.com"}]', "its entry 2 is not"),
        ('["webhook"]', "its entry 1 is not"),
        ('[{"slack": {"channel": "#data"}}]', "install apache-airflow-providers-slack"),
        ('[{"teams": {}}]', "'teams' is not there.*mail, slack, webhook or a dotted path"),
        ('[{"nightbatch_test_team.Missing": {}}]', "is not there .AttributeError."),
        ('[{"nightbatch_test_broken.Lines": {}}]', "is not there .RuntimeError."),
        ('[{"nightbatch_test_team.Stranger": {}}]', "is no subclass of airflow.sdk.BaseNotifier"),
        ('[{"nightbatch_test_team.OnlyAsync": {}}]', "has no `notify`"),
        ('[{"nightbatch_test_team.Lines": {"path": "x", "txt": ""}}]', "cannot be made: .*argument 'txt'"),
        ('[{"nightbatch_test_team.Unmakeable": {}}]', "cannot be made: ValueError"),
        ('[{"mail": {}}]', "cannot be made: .*'to'"),
    ],
)
def test_a_setting_that_will_not_do_says_what_to_mend(lines: Path, setting: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        notifiers(Settings(notifiers=setting))
    assert "canary" not in str(refused.value)


def test_all_that_is_wrong_is_said_at_once(lines: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)'slack'.*'teams'"):
        notifiers(settings({"slack": {}}, {"webhook": {}}, {"teams": {}}))


def test_no_setting_is_no_notifier() -> None:
    assert notifiers(Settings()) == {}


@dataclass
class Mailbox:
    """The least of SMTP (RFC 5321) that a client needs to deliver."""

    port: int
    mails: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test\r\n")
        while line := await reader.readline():
            match line.split()[0].upper():
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    self.mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                    writer.write(b"250 taken\r\n")
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 fine\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    loop, box = asyncio.new_event_loop(), Mailbox(0)
    server = loop.run_until_complete(asyncio.start_server(box.serve, "127.0.0.1", 0))
    box.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


def test_a_mail_shows_the_text_and_lets_none_of_it_be_markup(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("airflow.providers.smtp.notifications.smtp")
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "nightbatch@example.com"}
    monkeypatch.setenv(
        "AIRFLOW_CONN_SMTP_DEFAULT",
        json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": mailbox.port, "extra": extra}),
    )
    send({"mail": {"to": ["data@example.com"]}})
    mail = message_from_string(mailbox.mails[0])
    assert mail["To"] == "data@example.com"
    assert str(mail["Subject"]).startswith("[nightbatch] overdue: Batch 7 {{ 7*7 }} <b>")
    part = next(part for part in mail.walk() if part.get_content_type() == "text/html")
    text = part.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert (
        "Batch 7 {{ 7*7 }} &lt;b&gt;{% raw %}&lt;/b&gt; &amp; &lt;!channel&gt; is {{ alert.id }} overdue."
        in text.decode()
    )


# -- from the Dags


def test_one_notifier_that_cannot_be_used_and_one_that_fails_keep_no_other_back(
    connected: Receiver, store: Store, lines: Path, caplog: pytest.LogCaptureFixture
) -> None:
    everything = settings(
        {"slack": {"channel": "#data"}}, {"nightbatch_test_team.Broken": {}}, {"webhook": {}},
        {"nightbatch_test_team.Lines": {"path": str(lines)}},
    )  # fmt: skip
    store.raise_alert("overdue", "7", ODD)
    with caplog.at_level("DEBUG"):
        tell(store, everything)
        tell(store, everything)
    assert [alert["message"] for alert in connected.alerts] == [ODD]
    assert lines.read_text() == f"overdue | {ODD}\n"
    assert "install apache-airflow-providers-slack" in caplog.text
    assert "was not sent by nightbatch_test_team.Broken-" in caplog.text
    for canary in ("canary", SECRET, KEY.decode()):
        assert canary not in caplog.text


def test_a_notifier_that_is_new_is_told_what_is_open(store: Store, lines: Path, connected: Receiver) -> None:
    store.raise_alert("overdue", "7", "Batch 7 is overdue.")
    tell(store, settings({"webhook": {}}))
    tell(store, settings({"webhook": {}}, {"nightbatch_test_team.Lines": {"path": str(lines)}}))
    assert len(connected.got) == 1
    assert lines.read_text() == "overdue | Batch 7 is overdue.\n"


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    from airflow.dag_processing.dagbag import DagBag

    found = DagBag(str(DAGS))
    assert found.import_errors == {}
    return dict(found.dags)


def queue(store: Store) -> None:
    text = json.dumps(job_types()["creative_scoring"].example)
    store.connection.execute(
        "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('creative_scoring', 'openai', %s)", (text,)
    )


def plan(store: Store, run_id: str) -> None:
    queue(store)
    submission.plan_run(store, job_types(), Settings(), run_id=run_id, queued_before=None, params=RunParams())


@pytest.fixture
def task(dags: dict[str, DAG], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A Dag's task, called with the settings given."""

    def call(dag_id: str, task_id: str, given: Settings, **arguments: Any) -> None:
        function: Any = dags[dag_id].get_task(task_id)
        monkeypatch.setitem(function.python_callable.__globals__, "settings", given)
        function.python_callable(**arguments)

    return call


@pytest.mark.parametrize("notified", ['[{"webhook": {}}]', "no JSON"])
def test_the_nights_report_sends_alerts_and_goes_on_without_them(
    store: Store, connected: Receiver, task: Callable[..., Any], notified: str
) -> None:
    plan(store, "r1")
    store.raise_alert("overdue", "7", "Batch 7 is overdue.")
    events = {RESULTS: SimpleNamespace(extra=None)}
    given = replace(settings(), notifiers=notified)
    task(
        "nightbatch", "report", given, ti=SimpleNamespace(run_id="r1"), params={"dry_run": False}, outlet_events=events
    )
    assert events[RESULTS].extra["run_id"] == "r1"
    assert len(connected.got) == (1 if notified.startswith("[") else 0)


def test_every_hour_alerts_are_checked_and_sent(store: Store, connected: Receiver, task: Callable[..., Any]) -> None:
    store.connection.execute(
        "INSERT INTO nightbatch.job (job_type, provider, input, created_at) VALUES ('raw', 'gemini', '{}', '2026-11-01')"
    )
    task("nightbatch_recover", "alert", settings(*WEBHOOK))
    task("nightbatch_recover", "alert", settings(*WEBHOOK))
    assert [(alert["kind"], alert["subject"]) for alert in connected.alerts] == [("queue_backlog", "gemini")]


def test_airflow_holds_the_promise_of_24_hours(dags: dict[str, DAG]) -> None:
    restored = DagSerialization.from_dict(DagSerialization.to_dict(dags["nightbatch"]))
    (deadline,) = cast("list[dict[str, Any]]", restored.deadline)  # its annotation is that of the ids in the database
    assert deadline["reference"] == {"reference_type": "DagRunQueuedAtDeadline"}
    assert timedelta(seconds=deadline["interval"]) == timedelta(hours=24), "so does Airflow when it clears a run"
    assert deadline["callback"]["__classname__"].endswith(".AsyncCallback"), (
        "the triggerer runs it, whatever the executor"
    )
    assert deadline["callback"]["__data__"] == {"path": "nightbatch.airflow.deadlines.night_is_late", "kwargs": {}}


def test_a_late_night_raises_its_alert_and_sends_it_once(
    store: Store, connected: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTBATCH_NOTIFIERS", json.dumps(WEBHOOK))
    plan(store, "scheduled__1")
    for _ in range(2):  # events may come twice
        asyncio.run(night_is_late(context={"dag_run": {"dag_run_id": "scheduled__1"}, "deadline": {}}))
    (alert,) = connected.alerts
    assert (alert["kind"], alert["subject"]) == ("night_late", "scheduled__1")
    assert "1 jobs in 1 batches are still out" in alert["message"]


def test_a_night_that_is_through_is_not_late(
    store: Store, connected: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTBATCH_NOTIFIERS", json.dumps(WEBHOOK))
    submission.plan_run(store, job_types(), Settings(), run_id="empty", queued_before=None, params=RunParams())
    asyncio.run(night_is_late(context={"dag_run": {"dag_run_id": "empty"}}))
    assert connected.got == [] and store.open_alerts() == []


# -- base URLs of providers


@pytest.mark.fault(54)
@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize(
    ("scheme", "why"),
    [("https", r"'169\.254\.169\.254' leads to a private or local address"), ("http", "must begin with https://")],
)
def test_a_providers_base_url_into_the_own_network_is_refused(
    name: Any, scheme: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{scheme}://169.254.169.254/latest"
    refused = pytest.raises(ConfigurationError, match=why)
    connect(monkeypatch, f"{name}_default", host=url, password="k")
    with refused:
        provider_for(name)
    connect(monkeypatch, f"{name}_default", password="k", extra={f"{name}_client_kwargs": {"base_url": url}})
    with refused:
        provider_for(name)
    monkeypatch.setenv("NIGHTBATCH_ALLOWED_HOSTS", "169.254.169.254")
    assert provider_for(name).name == name


@pytest.mark.parametrize("host", ["", "https://eu.api.openai.com/v1"])
def test_a_provider_at_home_is_not_looked_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed_hosts, "connectable", None)
    connect(monkeypatch, "openai_default", host=host, password="k")
    assert provider_for("openai").name == "openai"
