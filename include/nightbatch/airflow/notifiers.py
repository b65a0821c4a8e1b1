"""Send alerts through Airflow's notifiers: ``NIGHTBATCH_NOTIFIERS`` says which.

The setting is a JSON list of objects with one name each: ``mail``, ``slack``, ``webhook``, or the dotted path of any subclass
of Airflow's ``BaseNotifier``; its value holds the constructor's arguments. Templated arguments may use ``alert.kind``,
``alert.title``, ``alert.message``, ``alert.subject``, ``alert.id`` and ``alert.raised_at``; these are put in as they are,
and never taken for a template themselves: a model's or a provider's words may stand in them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseNotifier
from airflow.sdk.exceptions import AirflowNotFoundException

from nightbatch.core.errors import ConfigurationError
from nightbatch.core.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from nightbatch.core.ledger import Alert
    from nightbatch.postgres.store import Store
    from nightbatch.reporting.alerts import Sender

log = logging.getLogger("nightbatch")

_PATHS = {
    "mail": "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
    "slack": "airflow.providers.slack.notifications.slack.SlackNotifier",
    "webhook": "nightbatch.airflow.notifiers.WebhookNotifier",
}
_PACKAGES = {"mail": "apache-airflow-providers-smtp", "slack": "apache-airflow-providers-slack"}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "mail": {
        "subject": "[nightbatch] {{ alert.title }}",
        "html_content": "<p>{{ alert.message | e }}</p>"
        "<p>Alert {{ alert.id }}, {{ alert.kind }}, raised {{ alert.raised_at }}</p>",
    },
    "slack": {
        # Slack wants these three escaped and no others: docs.slack.dev/messaging/formatting-message-text
        "text": "*{{ alert.kind }}*: {{ alert.message"
        " | replace('&', '&amp;') | replace('<', '&lt;') | replace('>', '&gt;') }}",
        "username": "nightbatch",
        "unfurl_links": False,
    },
}
_TITLE_CHARACTERS = 120


def tell(store: Store, settings: Settings) -> None:
    """Check for alerts, and send what is new. A notifier that cannot be used, or fails, is a warning in the log, no more."""
    from nightbatch.reporting import alerts

    for sentence in alerts.check(store, settings):
        log.info("Alert: %s", sentence)
    send(store, settings)


def send(store: Store, settings: Settings) -> None:
    """Send what is open, each alert once by each notifier."""
    from nightbatch.reporting import alerts

    senders, wrong = _senders(settings.notifiers)
    for sentence in wrong:
        log.warning("A notifier cannot be used, and the others are: %s", sentence)
    for sentence in alerts.send(store, senders):
        log.info("%s", sentence)


def notifiers(settings: Settings) -> dict[str, Sender]:
    """Return a sender for each notifier of the setting. Raises `ConfigurationError` that says all that has to be mended."""
    senders, wrong = _senders(settings.notifiers)
    if wrong:
        raise ConfigurationError("\n".join(wrong))
    return senders


class WebhookNotifier(BaseNotifier):
    """POST an alert as signed JSON to the URL in an Airflow connection.

    Its host is the whole URL, its password the signing secret; the extras ``headers``, ``ca_file`` and ``proxy`` are those of a
    provider's connection. The body is
    ``{"type": "nightbatch.alert", "timestamp": ..., "data": {"id", "kind", "subject", "title", "message", "raised_at"}}``;
    ``webhook-id`` is the same for each try of an alert. Raises as `nightbatch.reporting.webhook.deliver`.
    """

    def __init__(self, conn_id: str = "nightbatch_webhook", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def notify(self, context: Context) -> None:
        """Send ``context["alert"]``."""
        from nightbatch.core import allowed_hosts
        from nightbatch.providers.extras import read_webhook
        from nightbatch.reporting import webhook

        try:
            connection = BaseHook.get_connection(self.conn_id)
        except AirflowNotFoundException:
            raise ConfigurationError(f"there is no Airflow connection {self.conn_id!r}") from None
        if not connection.host or not connection.password:
            raise ConfigurationError(
                f"the connection {self.conn_id!r} needs the URL as its host and a signing secret as its password"
            )
        alert: dict[str, Any] = context["alert"]  # type: ignore[typeddict-item]  # ours: see _values
        body = {"type": "nightbatch.alert", "timestamp": alert["raised_at"], "data": alert}
        webhook.deliver(
            connection.host,
            connection.password,
            message_id=_message_id(alert),
            body=json.dumps(body).encode(),
            allowed=allowed_hosts.hosts(Settings.from_env().allowed_hosts),
            wire=read_webhook(self.conn_id, connection.extra),
        )


def _message_id(alert: Mapping[str, Any]) -> str:
    """Return an id that is the same for each try of an alert, and differs between two databases that tell one receiver."""
    made_of = f"{alert['id']} {alert['kind']} {alert['subject']} {alert['raised_at']}"
    return f"alert_{alert['id']}_{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"


def _senders(setting: str) -> tuple[dict[str, Sender], list[str]]:
    """Return the senders that can be used, and a sentence about each that cannot."""
    senders: dict[str, Sender] = {}
    wrong: list[str] = []
    try:
        entries = _entries(setting)
    except ConfigurationError as error:
        return {}, [str(error)]
    for name, options in entries:
        try:
            make = _factory(name, options)
            make()  # once, to hear of wrong arguments now
        except ConfigurationError as error:
            wrong.append(str(error))
        else:
            senders[_key(name, options)] = _sender(make)
    return senders, wrong


def _entries(setting: str) -> list[tuple[str, dict[str, Any]]]:
    if not setting:
        return []
    how = 'NIGHTBATCH_NOTIFIERS must be a JSON list like [{"mail": {"to": ["data@example.com"]}}]'
    try:
        entries = json.loads(setting)
    except ValueError:
        raise ConfigurationError(f"{how}; it is no JSON.") from None
    found = []
    for place, entry in enumerate(entries if isinstance(entries, list) else [None]):
        match entry:
            case dict() if len(entry) == 1 and isinstance(options := next(iter(entry.values())), dict):
                found.append((next(iter(entry)), options))
            case _:
                raise ConfigurationError(f"{how}; its entry {place + 1} is not one name with an object.")
    return found


def _factory(name: str, options: Mapping[str, Any]) -> Callable[[], BaseNotifier]:
    """Return a function that makes a notifier for each alert, since rendering changes it."""
    kind = _class(name)
    arguments = {**_DEFAULTS.get(name, {}), **options}

    def make() -> BaseNotifier:
        try:
            return kind(**arguments)
        except TypeError as error:  # it names arguments, not their values
            raise ConfigurationError(f"The notifier {name!r} cannot be made: {error}.") from None
        except Exception as error:  # noqa: BLE001  # others' code, which may raise anything
            raise ConfigurationError(f"The notifier {name!r} cannot be made: {type(error).__name__}.") from None

    return make


def _class(name: str) -> type[BaseNotifier]:
    module, _, attribute = _PATHS.get(name, name).rpartition(".")
    try:
        kind = getattr(import_module(module), attribute)
    except Exception as error:  # noqa: BLE001  # a module that is there may fail to import in any way
        install = f": install {_PACKAGES[name]}" if name in _PACKAGES else ": mail, slack, webhook or a dotted path"
        raise ConfigurationError(f"The notifier {name!r} is not there ({type(error).__name__}){install}.") from None
    if not (isinstance(kind, type) and issubclass(kind, BaseNotifier)):
        raise ConfigurationError(f"The notifier {name!r} is no subclass of airflow.sdk.BaseNotifier.")
    if kind.notify is BaseNotifier.notify:
        raise ConfigurationError(f"The notifier {name!r} has no `notify`, which a task needs.")
    return kind


def _sender(make: Callable[[], BaseNotifier]) -> Sender:
    def sender(alert: Alert) -> None:
        notifier, context = make(), _context(alert)
        # As calling it would, but that logs the text of an error, in which a URL or a token may stand.
        notifier.render_template_fields(context)
        notifier.notify(context)

    return sender


def _context(alert: Alert) -> Context:
    one_line = " ".join(alert.message.split())
    cut = one_line if len(one_line) <= _TITLE_CHARACTERS else f"{one_line[: _TITLE_CHARACTERS - 1]}…"
    values = {
        "id": alert.id,
        "kind": alert.kind,
        "subject": alert.subject,
        "title": f"{alert.kind}: {cut}",
        "message": alert.message,
        "raised_at": alert.raised_at.isoformat(timespec="seconds"),
    }
    return {"alert": values}  # type: ignore[typeddict-unknown-key]


def _key(name: str, options: Mapping[str, Any]) -> str:
    """Return what the database knows a notifier by: one whose setting changes is a new one, and gets all open alerts."""
    digest = hashlib.sha256(json.dumps([name, options], sort_keys=True).encode()).hexdigest()[:8]
    return f"{name}-{digest}"
