"""No secret and no personal data in any log line, exception, span, metric, stored reason, queue message or table.

One run full of faults, with the real clients against both emulators over HTTPS and against Azurite. Everything in it
that is secret or personal is a word found nowhere else, so that finding a leak is finding a word.

Output that an operator asks for is no log: `explain` prints the values of one opportunity, and that is looked at
for secrets and people alone. A queue message that isn't ours is kept as it came, in `opportunity-sync-unreadable`
and nowhere else: whose data it is and what it was meant for nobody here can know.
"""

from __future__ import annotations

import base64
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from azure.core.pipeline.transport import HttpTransport
from azure.storage.queue import QueueServiceClient

from sync_core import cli, wiring
from sync_core.adapters.clock import SystemClock
from sync_core.engine import Engine
from sync_core.messages import encode
from sync_core.model import Lane, Work
from sync_core.settings import Settings
from tests.security.evidence import Evidence, Listener, Trace, chain, leaks, sent_to_storage, stored
from tests.security.mischief import Mischief, dataverse_error, identity_error, marketo_error, page, says, skipping
from tests.stage import CONFIG
from tests.telemetry.measured import measured
from tools.azurite import ACCOUNT, ACCOUNT_KEY, Azurite
from tools.azurite import azurite as run_azurite
from tools.emulators.dataverse.administration import edit
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.web import DataverseApp
from tools.emulators.marketo.identity import Client
from tools.emulators.marketo.state import MarketoState
from tools.emulators.marketo.web import MarketoApp
from tools.emulators.serving import serving

pytestmark = pytest.mark.timeout(240)

FIRST, LAST, PHONE = "Zoltana", "Quxworthy", "+49 30 77712345"
ADDRESS = "zoltana.quxworthy@leakmark.invalid"
PEOPLE = ("zoltana", "quxworthy", "leakmark", "77712345", "umlautia", "ümläutia", "vendorella", "brobdin")
DEAL, DESCRIPTION, AMOUNT = "Xylodeal of the year", "Quillfeather terms, in confidence", 98765432.1
DEALS = ("xylodeal", "quillfeather", "98765432", "vexilonium")
DATAVERSE_SECRET, MARKETO_SECRET = "dv~Hushhush8~q", "mk.Whisper7Kept"
IDENTITY_HEADER = "header-Muffled5Drum"
SIGNATURE = "sigSotto4Voce+/%3D"
SECRETS = (
    DATAVERSE_SECRET,
    MARKETO_SECRET,
    IDENTITY_HEADER,
    "sigSotto4Voce",
    ACCOUNT_KEY,
    "eyJhbGciOi",
    "BEGIN RSA PRIVATE",
)
"""Every token of the emulated Entra ID, and every assertion of ours, begins with the same header."""

QUOTING = (
    f"Invalid value for field 'email' and value '{ADDRESS}'",
    f'Invalid value "{FIRST} {LAST}" for field "name"',
    f"{DEAL} of {FIRST} {LAST} <{ADDRESS}> can't be reached at {PHONE}",
)
"""The first one was recorded (marketo.md §4.3); `test_texts` has more, for the two functions that clean them."""


class Hurried(SystemClock):
    """Nobody waits: sleeping moves the time instead."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.slept)

    def monotonic(self) -> float:
        return super().monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += max(0.0, seconds)


@dataclass
class Run:
    """The services, the settings that lead to them, and what was found so far."""

    dataverse: DataverseState
    marketo: MarketoState
    dataverse_door: Mischief
    marketo_door: Mischief
    marketo_app: MarketoApp
    settings: Settings
    azurite: Azurite
    clock: Hurried
    evidence: Evidence
    folder: Path
    deal: str = ""
    contact: str = ""
    raised: int = 0

    def engine(self, **changes: Any) -> Engine:
        return wiring.build(replace(self.settings, **changes))

    def attempt(self, what: str, function: Callable[[], object]) -> BaseException | None:
        """Do it; what comes back and what is raised is evidence. A day passes, so that no pause lasts."""
        self.clock.sleep(86_400)
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not tell
            self.raised += 1
            self.evidence.add_error(what, error)
            return error
        self.evidence.add("result", what, result, repr(result))
        return None

    def deliver(self, engine: Engine, *, force: bool = True) -> object:
        """The deal, as the queue trigger hands it over."""
        body = encode(Work(opportunities=(self.deal,), force=force))
        return self.hand_over(engine, body)

    def hand_over(self, engine: Engine, body: str) -> object:
        ends = self.clock.now() + timedelta(minutes=10)
        return engine.deliver(body, dequeue_count=2, lease_ends=ends, lane=Lane.FRESH)

    def try_all(self, what: str, **settings: Any) -> None:
        """Both functions on a fresh engine, as after a restart: no token and no description is remembered."""
        engine = self.engine(**settings)
        self.attempt(f"detect, {what}", engine.detect)
        self.attempt(f"deliver, {what}", lambda: self.deliver(engine))

    def tokens(self) -> set[str]:
        return set(self.marketo.identity._tokens) | {each[1] for each in self.dataverse_tokens}

    @property
    def dataverse_tokens(self) -> set[tuple[str, str]]:
        return set(self.dataverse_door._app._bearers._known)


@contextmanager
def services(folder: Path, listener: Listener) -> Iterator[Run]:
    dataverse = DataverseState(seed=5, client_secret=DATAVERSE_SECRET, identity_header=IDENTITY_HEADER)
    client = Client(secret=MARKETO_SECRET, user=f"api.{LAST}@leakmark.invalid")
    # Its time is the real one, and ours is not: its own limit of calls in 20 seconds would be met at once.
    marketo = MarketoState(seed=5, clients=(client,), switches={"rate_limit": 1_000_000})
    marketo_app = MarketoApp(marketo)
    doors = Mischief(DataverseApp(dataverse)), Mischief(marketo_app)
    with ExitStack() as open_:
        urls = [open_.enter_context(serving(door, folder=folder / "trusted")) for door in doors]
        storage = open_.enter_context(run_azurite())
        (folder / "sync.toml").write_text(CONFIG, encoding="utf-8")
        settings = Settings(
            dataverse_url=urls[0],
            dataverse_tenant_id=dataverse.tenant,
            dataverse_client_id=dataverse.client_id,
            dataverse_client_secret=DATAVERSE_SECRET,
            dataverse_authority_host=urls[0],
            marketo_url=urls[1],
            marketo_client_id=client.id,
            marketo_client_secret=MARKETO_SECRET,
            storage_connection=storage.connection_string,
            sync_config=str(folder / "sync.toml"),
        )
        evidence = listener._evidence
        yield Run(dataverse, marketo, *doors, marketo_app, settings, storage, Hurried(), evidence, folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The whole run; what it left behind is in `evidence`."""
    folder = tmp_path_factory.mktemp("leaks")
    evidence = Evidence()
    listener = Listener(evidence)
    root = logging.getLogger()
    level = root.level
    with pytest.MonkeyPatch.context() as patch, services(folder, listener) as found, measured(patch) as telemetry:
        patch.setenv("REQUESTS_CA_BUNDLE", str(folder / "trusted" / "ca.pem"))
        patch.setattr(wiring, "SystemClock", lambda: found.clock)
        patch.setattr(HttpTransport, "sleep", lambda *_: None)
        record_requests(patch, found)
        root.addHandler(listener)
        root.setLevel(logging.DEBUG)
        logging.getLogger("sync_core").setLevel(logging.NOTSET)  # a command of another test may have silenced it
        try:
            for step in STEPS:
                step(found, patch)
                found.dataverse_door.answering = found.marketo_door.answering = None
                found.marketo_app.faults.clear()
            for span in telemetry.spans:
                evidence.add("span", span.name, span.to_json())
            for name, attributes, _ in telemetry.metrics():
                evidence.add("metric", name, attributes)
            yield found
        finally:
            root.removeHandler(listener)
            root.setLevel(level)


def record_requests(patch: pytest.MonkeyPatch, found: Run) -> None:
    """What goes to the storage account is looked at on its way: invisible and deleted messages too."""
    send = requests.Session.send
    ports = {str(port) for port in found.azurite.ports}

    def recorded(self: requests.Session, request: requests.PreparedRequest, **named: Any) -> requests.Response:
        if str(request.url).split("/")[2].rpartition(":")[2] in ports:
            found.evidence.traces.append(sent_to_storage(request))
        return send(self, request, **named)

    patch.setattr(requests.Session, "send", recorded)


# --- the steps ------------------------------------------------------------------------------------------------


def a_first_sync(run: Run, patch: pytest.MonkeyPatch) -> None:
    """Everything in step, so that the faults meet full tables; one person is missing in Marketo."""

    def create(table: str, **values: Any) -> str:
        return str(edit(run.dataverse, {"op": "create", "table": table, "values": values})["id"])

    account = create("account", name="Vexilonium Holdings", websiteurl="https://vexilonium.invalid", telephone1=PHONE)
    of_account = {
        "_parentcustomerid_value": account,
        "_parentcustomerid_value@Microsoft.Dynamics.CRM.lookuplogicalname": "account",
    }
    run.contact = create(
        "contact", firstname=FIRST, lastname=LAST, emailaddress1=ADDRESS, telephone1=PHONE, **of_account
    )
    missing = create("contact", firstname="Ümläutia", lastname="Brobdin", emailaddress1="umlautia@leakmark.invalid")
    odd = create(
        "contact", firstname="Ümläutia", lastname="Brobdin", emailaddress1="ümläutia, brobdin@leakmark.invalid"
    )
    run.deal = create(
        "opportunity",
        name=DEAL,
        description=DESCRIPTION,
        estimatedvalue=AMOUNT,
        _parentaccountid_value=account,
        _parentcontactid_value=run.contact,
    )
    create("opportunity", name=f"{DEAL} {'x' * 270}", estimatedvalue=AMOUNT, _parentcontactid_value=run.contact)
    for contact in (run.contact, missing, odd):
        edit(run.dataverse, {"op": "connect", "opportunity": run.deal, "contact": contact, "role": "Decision Maker"})
    run.marketo.load({"leads": [{"email": ADDRESS, "firstName": FIRST, "lastName": LAST, "phone": PHONE}]})
    run.dataverse.add_user("99999999-9999-4999-8999-999999999999", "Vendorella Brobdin")
    engine = run.engine()
    for _ in range(3):
        assert run.attempt("detect", engine.detect) is None
    assert run.attempt("deliver", lambda: run.deliver(engine)) is None
    shown = {row["externalOpportunityId"]: row for row in run.marketo.rows("opportunities")}
    assert shown[run.deal]["name"] == DEAL, "the run has to carry what it looks for"
    assert run.marketo.rows("roles")


def pages_that_echo(run: Run, patch: pytest.MonkeyPatch) -> None:
    for status in (200, 302, 400, 401, 403, 429, 500):
        for door, path in (
            (run.dataverse_door, "/api/"),
            (run.marketo_door, "/rest/"),
            (run.dataverse_door, "/oauth2/"),
            (run.dataverse_door, "/.well-known/"),
            (run.marketo_door, "/identity/"),
        ):
            door.answering = page(status, only=path)
            struck = door.struck
            run.try_all(f"a page with status {status} at {path}")
            assert door.struck > struck
            door.answering = None


def errors_that_echo(run: Run, patch: pytest.MonkeyPatch) -> None:
    """JSON with the whole request in its text: token, secret, query, records."""
    for status in (400, 403, 500):
        for code in ("0x80040203", "0x80060888", "0x80072491", "0x80048d19"):
            run.dataverse_door.answering = says(status, dataverse_error(code), only="/api/")
            run.try_all(f"Dataverse echoes, {status} {code}")
    run.dataverse_door.answering = None
    for code in ("603", "609", "610", "611", "1003", "1018", "9999"):
        run.marketo_door.answering = says(200, marketo_error(code), only="/rest/")
        run.try_all(f"Marketo echoes, {code}")
    for door, path in ((run.dataverse_door, "/oauth2/"), (run.marketo_door, "/identity/")):
        for status in (200, 400, 401):
            door.answering = says(
                status,
                lambda text: {"error": "invalid_client", "error_description": f"AADSTS7000215: {text}"},
                only=path,
            )
            run.try_all(f"{path} echoes, {status}")
            door.answering = None


def errors_that_quote(run: Run, patch: pytest.MonkeyPatch) -> None:
    for text in QUOTING:
        for status in (400, 500):
            run.dataverse_door.answering = says(status, dataverse_error("0x80040203"), only="/api/", text=text)
            run.try_all(f"Dataverse quotes, {text}")
        run.dataverse_door.answering = None
        answers = [says(200, marketo_error(code), only="/rest/", text=text) for code in ("603", "611", "1003", "9999")]
        answers += [skipping(code, text) for code in ("1001", "1003", "1006", "1018", "9999")]
        for answer in answers:
            run.marketo_door.answering = answer
            engine = run.engine()
            run.attempt(f"Marketo quotes, {text}", lambda engine=engine: run.deliver(engine))
        run.marketo_door.answering = None


def faults_of_the_emulators(run: Run, patch: pytest.MonkeyPatch) -> None:
    for rule in (
        {"fault": "603"},
        {"fault": "607"},
        {"fault": "601"},
        {"fault": "1003"},
        {"fault": "reset", "on": {"kind": "write"}},
        {"fault": "truncated", "on": {"kind": "read"}},
        {"fault": "lost", "on": {"kind": "write"}},
        {"fault": "skip", "share": 1, "code": "1003", "message": QUOTING[0]},
    ):
        run.marketo_app.faults.set({"rules": [rule]})
        run.try_all(f"Marketo with {rule}")
        assert run.marketo_app.faults.describe()["rules"][0]["struck"], rule
        run.marketo_app.faults.clear()
    for name, values in (("application_user", ("missing", "disabled", "no_role")), ("untracked_table", ("silent",))):
        for value in values:
            run.dataverse.switches[name] = value
            run.try_all(f"Dataverse with {name} {value}")
        run.dataverse.switches[name] = {"application_user": "enabled", "untracked_table": "error"}[name]
    run.dataverse.expire_delta_links()
    run.try_all("expired links")


def looks(run: Run, patch: pytest.MonkeyPatch) -> None:
    """What the second timer does, which becomes gauges."""
    assert run.attempt("watch", run.engine().watch) is None


def wrong_credentials(run: Run, patch: pytest.MonkeyPatch) -> None:
    run.try_all("wrong secret of Dataverse", dataverse_client_secret=f"{DATAVERSE_SECRET}wrong")
    run.try_all("wrong secret of Marketo", marketo_client_secret=f"{MARKETO_SECRET}wrong")
    run.try_all("unknown client of Marketo", marketo_client_id=f"{LAST}@leakmark.invalid")
    run.try_all("unknown tenant", dataverse_tenant_id="nobody")
    authority = trustme.CA()
    certificate = authority.issue_cert("client.example.test")
    pem = certificate.private_key_pem.bytes().decode() + certificate.cert_chain_pems[0].bytes().decode()
    run.dataverse.switches["client_certificate"] = authority.cert_pem.bytes().decode()
    run.try_all("another certificate", dataverse_client_secret="", dataverse_client_certificate=pem)
    broken = pem.replace("M", "N", 3).replace("A", "B", 9)
    run.try_all("a broken certificate", dataverse_client_secret="", dataverse_client_certificate=broken)
    cut = pem.split("-----END")[0] + DATAVERSE_SECRET
    run.try_all("half a certificate", dataverse_client_secret="", dataverse_client_certificate=cut)
    run.dataverse.switches["client_certificate"] = None
    patch.setenv("IDENTITY_ENDPOINT", f"{run.settings.dataverse_url}/msi/token")
    for header in (IDENTITY_HEADER, f"{IDENTITY_HEADER}wrong"):
        patch.setenv("IDENTITY_HEADER", header)
        run.try_all("managed identity", dataverse_client_secret="")
        for answer in (page(200, only="/msi/"), says(400, identity_error, only="/msi/")):
            run.dataverse_door.answering = answer
            run.try_all("managed identity with an echo", dataverse_client_secret="")
            run.dataverse_door.answering = None
    patch.delenv("IDENTITY_ENDPOINT")
    patch.delenv("IDENTITY_HEADER")


def wrong_addresses(run: Run, patch: pytest.MonkeyPatch) -> None:
    with serving(DataverseApp(run.dataverse), folder=run.folder / "strange") as strange:
        for url in (
            "https://nobody.invalid",
            "https://localhost:1",
            strange,
            strange.replace("localhost", "127.0.0.2"),
        ):
            run.try_all(f"Dataverse at {url}", dataverse_url=url, dataverse_authority_host=url)
            run.try_all(f"Entra ID at {url}", dataverse_authority_host=url)
            run.try_all(f"Marketo at {url}", marketo_url=url)


def messages_that_are_not_ours(run: Run, patch: pytest.MonkeyPatch) -> None:
    engine = run.engine()
    for body in foreign_bodies():
        assert run.attempt("a message that isn't ours", lambda body=body: run.hand_over(engine, body)) is None
    with QueueServiceClient.from_connection_string(run.settings.storage_connection) as service:
        poison = service.get_queue_client("opportunity-sync-poison")
        for body in foreign_bodies()[:-1]:  # the last one is longer than a queue takes
            poison.send_message(base64.b64encode(body.encode()).decode())
        poison.send_message(f"{FIRST} {LAST} unencoded")
        poison.send_message(base64.b64encode(encode(Work(opportunities=(run.deal,))).encode()).decode())
    # These came from the test, not from the app.
    run.evidence.traces = [
        trace for trace in run.evidence.traces if "POST /devstoreaccount1/opportunity-sync-poison" not in trace.where
    ]
    assert run.attempt("a tick with poison", engine.detect) is None


def foreign_bodies() -> list[str]:
    return [
        f"{FIRST} {LAST} <{ADDRESS}> {PHONE}",
        json.dumps({"name": DEAL, "email": ADDRESS, ADDRESS: 1}),
        json.dumps({"v": 1, ADDRESS: LAST}),
        json.dumps(json.loads(encode(Work())) | {"why": LAST * 100}),
        json.dumps(json.loads(encode(Work())) | {"lane": ADDRESS}),
        json.dumps(json.loads(encode(Work())) | {ADDRESS: ADDRESS}),
        (ADDRESS + " ") * 3_000,
    ]


def values_that_do_not_fit(run: Run, patch: pytest.MonkeyPatch) -> None:
    text = CONFIG.replace('"closeprobability"', '"description"')
    assert text != CONFIG
    (run.folder / "unfit.toml").write_text(text, encoding="utf-8")
    run.try_all("text for a number", sync_config=str(run.folder / "unfit.toml"))


def other_states_of_the_world(run: Run, patch: pytest.MonkeyPatch) -> None:
    """What nobody expects: code that fails with an error of its own in the middle of the work."""
    engine = run.engine()
    for port, method in (("opportunities", "write"), ("people", "read"), ("target", "upsert"), ("source", "rows")):
        with pytest.MonkeyPatch.context() as broken:
            broken.setattr(getattr(engine.world, port), method, failing)
            run.attempt(f"{port}.{method} breaks", lambda: run.deliver(engine))
            run.attempt(f"{port}.{method} breaks", engine.detect)


def failing(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a fault of the program")


def commands(run: Run, patch: pytest.MonkeyPatch) -> None:
    """As an operator types them, with everything in order and with each of three things out of order."""
    cases: Mapping[str, Mapping[str, Any]] = {
        "good": {},
        "wrong secret": {"dataverse_client_secret": f"{DATAVERSE_SECRET}wrong"},
        "no Marketo": {"marketo_url": "https://localhost:1"},
        "no storage": {"storage_connection": unreachable_storage()},
    }
    lines = (
        ["sync", "--no-wait"],
        ["sync", "--only", run.deal],
        ["status"],
        ["status", "--json"],
        ["explain", run.deal],
        ["explain", run.deal, "--json"],
        ["failures", "list"],
        ["failures", "show", run.deal],
        ["failures", "export"],
        ["failures", "redrive", "--all"],
        ["approve-removals"],
        ["repoint"],
    )
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    for case, changes in cases.items():
        engine = run.engine(**changes)
        patch.setattr(cli, "engine", lambda engine=engine: engine)
        for line in lines:
            said = Console(run.evidence, f"{' '.join(line)}, {case}", asked=line[0] == "explain")
            patch.setattr(sys, "stdout", said.out)
            patch.setattr(sys, "stderr", said.err)
            run.attempt(said.what, lambda line=line: cli.main(line))
            patch.setattr(sys, "stdout", sys.__stdout__)
            patch.setattr(sys, "stderr", sys.__stderr__)
            logging.getLogger("sync_core").setLevel(logging.NOTSET)  # a command silences it for its process
            said.keep()
    for number, handler in handlers:
        signal.signal(number, handler)


class Console:
    """Standard output and standard error of one command. What was *asked* for may show values of opportunities."""

    def __init__(self, evidence: Evidence, what: str, *, asked: bool) -> None:
        import io

        self.what, self._evidence, self._asked = what, evidence, asked
        self.out, self.err = io.StringIO(), io.StringIO()

    def keep(self) -> None:
        self._evidence.add("asked" if self._asked else "console", f"stdout of {self.what}", self.out.getvalue())
        self._evidence.add("console", f"stderr of {self.what}", self.err.getvalue())


def unreachable_storage(port: int = 1, *, signature: str = "") -> str:
    """A storage account where nobody listens; with *signature*, one that is entered by SAS."""
    secret = f"SharedAccessSignature=sv=2024-11-04&ss=qt&sig={signature}" if signature else f"AccountKey={ACCOUNT_KEY}"
    ends = "".join(f"{kind}Endpoint=http://127.0.0.1:{port}/{ACCOUNT};" for kind in ("Queue", "Table", "Blob"))
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};{secret};{ends}"


def storage_out_of_order(run: Run, patch: pytest.MonkeyPatch) -> None:
    run.try_all("storage away, by key", storage_connection=unreachable_storage())
    run.try_all("storage away, by SAS", storage_connection=unreachable_storage(signature=SIGNATURE))
    run.try_all("a wrong SAS", storage_connection=unreachable_storage(run.azurite.ports.table, signature=SIGNATURE))
    wrong = run.settings.storage_connection.replace(ACCOUNT_KEY, base64.b64encode(SIGNATURE.encode()).decode())
    run.try_all("a wrong key", storage_connection=wrong)
    run.attempt("no key at all", lambda: run.engine(storage_connection=f"AccountName={ACCOUNT};AccountKey={SIGNATURE}"))
    run.attempt("no connection string", lambda: run.engine(storage_connection=f"{ACCOUNT_KEY};{SIGNATURE}"))
    echo = Mischief(DataverseApp(run.dataverse))
    for status in (200, 400, 403, 404, 409, 500):
        echo.answering = page(status)
        with serving(echo, folder=run.folder / "trusted") as url:
            for name, connection in (
                ("key", unreachable_storage(int(url.rpartition(":")[2]))),
                ("SAS", unreachable_storage(int(url.rpartition(":")[2]), signature=SIGNATURE)),
            ):
                secure = connection.replace("http://127.0.0.1", "https://localhost").replace("=http;", "=https;")
                run.try_all(f"storage echoes {status}, by {name}", storage_connection=secure)


def storage_stops(run: Run, patch: pytest.MonkeyPatch) -> None:
    """In the middle of a delivery: Marketo has the write, and the ledger can't be told. The last step."""
    run.evidence.traces += stored(run.settings.storage_connection)
    engine = run.engine()
    upsert = engine.world.target.upsert

    def then_storage_stops(*args: Any, **named: Any) -> Any:
        answers = upsert(*args, **named)
        run.azurite.stop()
        return answers

    patch.setattr(engine.world.target, "upsert", then_storage_stops)
    assert run.attempt("storage stops during a delivery", lambda: run.deliver(engine)) is not None
    run.try_all("storage is gone")


STEPS = (
    a_first_sync,
    pages_that_echo,
    errors_that_echo,
    errors_that_quote,
    faults_of_the_emulators,
    looks,
    wrong_credentials,
    wrong_addresses,
    messages_that_are_not_ours,
    values_that_do_not_fit,
    other_states_of_the_world,
    commands,
    storage_out_of_order,
    storage_stops,
)


# --- what is found ----------------------------------------------------------------------------------------------


def secrets(run: Run) -> set[str]:
    return {*SECRETS, *run.tokens()}


def everything(run: Run) -> set[str]:
    return {*secrets(run), *PEOPLE, *DEALS}


def report(found: Iterable[str]) -> str:
    listed = list(found)
    return f"{len(listed)} leaks:\n" + "\n\n".join(listed[:20])


def test_no_log_line_of_any_library_tells(run: Run) -> None:
    """From INFO on, as Azure keeps them; our own also at DEBUG, and with arguments and extras."""
    lines = run.evidence.of("log")
    assert any(trace.where.startswith("sync_core") and "put_back" in trace.text for trace in lines)

    found = leaks(lines, everything(run))

    assert not found, report(found)


def test_no_span_and_no_metric_tells(run: Run) -> None:
    """Nor the id of a record: names, attributes and the errors of spans, and what metrics are split by."""
    spans, metrics = run.evidence.of("span"), run.evidence.of("metric")
    assert {"tick", "watch", "delivery", "command sync", "Marketo GET leads.json"} <= {trace.where for trace in spans}
    assert {"sync.calls", "sync.parked"} <= {trace.where for trace in metrics}

    found = leaks([*spans, *metrics], {*everything(run), run.deal, run.contact})

    assert not found, report(found)


def test_no_exception_tells_in_text_repr_or_traceback(run: Run) -> None:
    """Also those that stand behind it: tracebacks print causes and contexts."""
    assert run.raised > 50

    found = leaks(run.evidence.of("exception", "result"), everything(run))

    assert not found, report(found)


def test_nothing_in_storage_tells(run: Run) -> None:
    """Every table and queue at the end, and every request that the app sent there."""
    traces = run.evidence.of("storage")
    assert {"table OpportunityLedger", "table People", "table SyncState"} <= {trace.where for trace in traces}

    found = leaks(traces, everything(run))

    assert not found, report(found)


def test_what_is_not_ours_is_kept_as_it_came_and_its_reason_tells_nothing(run: Run) -> None:
    texts = [trace.text.splitlines()[-1:] for trace in run.evidence.of("unreadable")]
    kept = [json.loads(text) for last in texts for text in last if text.startswith("{")]
    assert {envelope["body"] for envelope in kept} >= {body for body in foreign_bodies() if len(body) < 40_000}

    found = leaks([Trace("reason", "unreadable", envelope["reason"]) for envelope in kept], everything(run))

    assert not found, report(found)


def test_commands_print_nothing_that_was_not_asked_for(run: Run) -> None:
    assert len(run.evidence.of("console")) > 50

    found = leaks(run.evidence.of("console"), everything(run))

    assert not found, report(found)


def test_explain_shows_the_opportunity_but_no_person_and_no_secret(run: Run) -> None:
    shown = run.evidence.of("asked")
    assert any(DEAL in trace.text for trace in shown)

    found = leaks(shown, {*secrets(run), *PEOPLE})

    assert not found, report(found)


def test_the_app_uses_queues_and_tables_only(run: Run) -> None:
    """So there is no blob of ours to look at but `validate`'s probe; the host's own hold its timers and leases."""
    adapters = Path(wiring.__file__).parent / "adapters"
    assert [path.name for path in adapters.glob("*.py") if "blob" in path.read_text(encoding="utf-8")] == ["storage.py"]


@pytest.mark.parametrize(
    "kind", ["log", "span", "metric", "exception", "storage", "unreadable", "console", "asked", "debug"]
)
def test_the_run_left_something_of_every_kind(run: Run, kind: str) -> None:
    assert run.evidence.of(kind)


def test_a_chain_is_followed_as_far_as_tracebacks_do() -> None:
    first, second, third, hidden = ValueError("first"), KeyError("second"), TypeError("third"), OSError("hidden")
    third.__context__ = second
    second.__cause__ = first
    first.__context__, first.__suppress_context__ = hidden, True

    assert set(chain(third)) == {first, second, third}
