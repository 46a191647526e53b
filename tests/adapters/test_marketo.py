"""The Marketo client over real HTTPS against the emulated subscription, and against recorded answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_core.adapters import marketo
from sync_core.adapters.marketo import MarketoClient
from sync_core.errors import (
    ConfigurationError,
    CredentialsRefused,
    OutOfTime,
    QuotaExhausted,
    RetryLater,
    SplitBatch,
    SyncError,
    Throttled,
    Unavailable,
)
from sync_core.model import Answer, Lead, MarketoObject, Role
from sync_core.settings import Settings
from tests.fakes import FakeClock, FakeLimiter
from tools.emulators.marketo.state import MarketoState
from tools.emulators.marketo.web import MarketoApp
from tools.emulators.serving import certificate_authority, serving

OBSERVED = Path(__file__).parents[3] / "shared" / "data" / "marketo" / "observed-responses.json"
OPPORTUNITY, ROLE, LEAD = MarketoObject.OPPORTUNITY, MarketoObject.ROLE, MarketoObject.LEAD
LATER = datetime.max.replace(tzinfo=UTC)

Instead = Callable[[dict[str, Any], Callable[..., Any]], list[bytes] | None]


class Front:
    """The emulator, with answers of a test's own in front of it, one per request to /rest/, while there are any.

    *instead* entries are called with environ and start_response and may return None: the emulator answers.
    """

    def __init__(self) -> None:
        self.app = MarketoApp(MarketoState())
        self.instead: list[Instead] = []
        self.seen: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}".rstrip("?")
        self.seen.append(f"{environ['REQUEST_METHOD']} {path}")
        if self.instead and not path.startswith("/admin"):
            body = self.instead.pop(0)(environ, start_response)
            if body is not None:
                return body
        return self.app(environ, start_response)


def says(body: object, status: str = "200 OK", *headers: tuple[str, str]) -> Instead:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(raw))), *headers])
        return [raw]

    return answer


def kept(inner: Instead, forms: list[bytes]) -> Instead:
    """*inner*, with the body of its request added to *forms*."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes] | None:
        forms.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(), "0"
        return inner(environ, start_response)

    return answer


def emulated(environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
    """Let the emulator answer."""


def refusal(*codes: str, text: str = "a text") -> Instead:
    return says({"requestId": "1#2", "success": False, "errors": [{"code": c, "message": text} for c in codes]})


def result(*items: dict[str, Any], **more: Any) -> Instead:
    return says({"requestId": "1#2", "success": True, "result": list(items), **more})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, str, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    authority = certificate_authority(folder)
    front = Front()
    with serving(front, folder=folder) as url:
        yield front, url, authority


@pytest.fixture
def front(service: tuple[Front, str, Path], monkeypatch: pytest.MonkeyPatch) -> Front:
    front, _, authority = service
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    front.app = MarketoApp(MarketoState())
    front.instead = []
    front.seen = []
    return front


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limiter(clock: FakeClock) -> FakeLimiter:
    return FakeLimiter(clock)


def settings(url: str, **changes: Any) -> Settings:
    plain = {
        "dataverse_url": "https://org.example",
        "marketo_url": url,
        "marketo_client_id": "33333333-3333-4333-8333-333333333333",
        "marketo_client_secret": "emulator-secret",
    }
    return Settings(**(plain | changes))


@pytest.fixture
def client(service: tuple[Front, str, Path], front: Front, clock: FakeClock, limiter: FakeLimiter) -> MarketoClient:
    return MarketoClient(settings(service[1]), clock, limiter, random=lambda: 0.0)


@pytest.fixture
def signed_in(client: MarketoClient, front: Front, limiter: FakeLimiter) -> MarketoClient:
    """With its token in hand, so that a test's answers meet the request they are meant for."""
    client.describe(MarketoObject.COMPANY)
    limiter.used = 0
    front.seen.clear()
    return client


def opportunity(number: int, **fields: Any) -> dict[str, Any]:
    return {"externalOpportunityId": f"id {number}", "name": f"Deal {number}", **fields}


# --- against the emulator ---------------------------------------------------------------------------------------


def test_opportunities_are_created_updated_and_deleted(client: MarketoClient) -> None:
    records = [opportunity(number) for number in range(300)]
    keys = [{"externalOpportunityId": record["externalOpportunityId"]} for record in records]

    outcomes = [client.upsert(OPPORTUNITY, records, until=LATER), client.upsert(OPPORTUNITY, records, until=LATER)]
    outcomes += [client.delete(OPPORTUNITY, keys, until=LATER), client.delete(OPPORTUNITY, keys, until=LATER)]

    assert [{(each.status, each.code) for each in outcome.records} for outcome in outcomes] == [
        {("created", "")},
        {("updated", "")},
        {("deleted", "")},
        {("skipped", "1013")},
    ]
    assert not any(outcome.unanswered for outcome in outcomes)


def test_one_bad_record_harms_only_itself_and_its_value_stays_out_of_the_message(client: MarketoClient) -> None:
    answers = client.upsert(
        OPPORTUNITY, [opportunity(1), opportunity(2, probability="Anna"), opportunity(3)], until=LATER
    )

    assert [each.status for each in answers.records] == ["created", "skipped", "created"]
    assert answers.records[1].code == "1003"
    assert "probability" in answers.records[1].message
    assert "Anna" not in answers.records[1].message


def test_roles_are_read_back_by_opportunity(client: MarketoClient, front: Front) -> None:
    lead = front.app.state.load({"leads": [{"email": "a@example.test"}]})["leads"][0]
    client.upsert(OPPORTUNITY, [opportunity(1), opportunity(2)], until=LATER)
    key = {"externalOpportunityId": "id 1", "leadId": lead, "role": "Champion"}
    client.upsert(ROLE, [{**key, "isPrimary": True, "externalCreatedDate": "2026-01-02T03:04:05Z"}], until=LATER)

    assert client.roles(["id 1", "id 2"]) == {"id 1": [Role(lead, "Champion", True, "2026-01-02T03:04:05Z")]}
    assert client.delete(ROLE, [key], until=LATER).records == [Answer("deleted")]
    assert client.roles([]) == {}


def test_opportunities_are_asked_for_by_company_to_the_last_page(client: MarketoClient, front: Front) -> None:
    companies = [{"externalCompanyId": each} for each in ("acme", "bolt", "core")]
    client.upsert(MarketoObject.COMPANY, companies, until=LATER)
    for start in (0, 300):
        batch = [opportunity(start + number, externalCompanyId="acme") for number in range(300)]
        client.upsert(OPPORTUNITY, batch, until=LATER)
    client.upsert(OPPORTUNITY, [opportunity(700, externalCompanyId="core"), opportunity(701)], until=LATER)

    def of(*named: str) -> set[str]:
        return set().union(*client.holders(OPPORTUNITY, "externalCompanyId", named).values())

    assert of("acme", "bolt") == {f"id {number}" for number in range(600)}
    assert of("CORE") == {"id 700"}
    assert of() == set()


def test_present_values_are_read_by_key_and_named_as_they_were_asked(client: MarketoClient, front: Front) -> None:
    client.upsert(OPPORTUNITY, [opportunity(1, amount=5.5), opportunity(2)], until=LATER)

    found = client.records(OPPORTUNITY, ["ID 1", "id 2", "id 3"], ["name", "amount"])

    assert found == {"ID 1": {"name": "Deal 1", "amount": 5.5}, "id 2": {"name": "Deal 2", "amount": None}}
    assert client.records(MarketoObject.COMPANY, ["id 1"], []) == {}
    assert client.records(MarketoObject.SALES_PERSON, [], ["email"]) == {}


def test_who_refers_to_a_company_is_told_by_the_value_that_was_asked(client: MarketoClient, front: Front) -> None:
    front.app.state.load({"companies": [{"externalCompanyId": key} for key in ("acme", "bolt")]})
    (lead,) = front.app.state.load({"leads": [{"email": "a@example.test", "externalCompanyId": "acme"}]})["leads"]
    client.upsert(OPPORTUNITY, [opportunity(n, externalCompanyId="acme") for n in (1, 2)], until=LATER)

    asked = ("externalCompanyId", ["ACME", "bolt"])
    assert client.holders(OPPORTUNITY, *asked) == {"ACME": {"id 1", "id 2"}}
    assert client.holders(MarketoObject.LEAD, *asked) == {"ACME": {str(lead)}}


def test_three_hundred_ids_go_as_one_long_query_in_a_form(client: MarketoClient, front: Front) -> None:
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(300)]
    client.roles(ids)

    asked = [line for line in front.seen if "roles" in line]
    assert asked == ["POST /rest/v1/opportunities/roles.json?_method=GET"]
    with pytest.raises(ValueError, match="300"):
        client.roles([*ids, "one more"])


def test_people_are_found_by_address_in_lower_case(client: MarketoClient, front: Front) -> None:
    people = [{"email": f"Person{number}@Example.test"} for number in range(250)]
    ids = front.app.state.load({"leads": people})["leads"]

    found = client.leads("email", [person["email"].lower() for person in people])

    assert {(lead.id, lead.value) for lead in found} == {
        (number, f"person{at}@example.test") for at, number in enumerate(ids)
    }
    assert all(lead.updated for lead in found)


def test_a_value_with_a_comma_is_never_sent(client: MarketoClient, front: Front) -> None:
    with pytest.raises(ValueError, match="comma"):
        client.leads("email", ["a,b@example.test"])
    assert front.seen == []


def test_too_many_matches_split_the_question(client: MarketoClient, front: Front) -> None:
    front.app.state.load({"leads": [{"email": "same@example.test"}] * 1_001})

    with pytest.raises(SplitBatch):
        client.leads("email", ["same@example.test", "other@example.test"])


@pytest.mark.parametrize("kind", list(MarketoObject))
def test_describe_is_asked_once_a_day(client: MarketoClient, clock: FakeClock, limiter: FakeLimiter, kind) -> None:
    fields = client.describe(kind)
    client.describe(kind)

    assert limiter.used == 1
    assert all(name == field.name and field.type for name, field in fields.items())
    clock.sleep(86_400)
    client.describe(kind)
    assert limiter.used == 2


def test_describe_tells_lengths_and_what_may_be_written(client: MarketoClient) -> None:
    fields = client.describe(OPPORTUNITY)

    assert (fields["name"].length, fields["name"].updateable) == (255, True)
    assert (fields["amount"].length, fields["marketoGUID"].updateable) == (None, False)


def test_one_token_serves_many_calls_and_is_never_in_a_url(client: MarketoClient, front: Front) -> None:
    for _ in range(3):
        client.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)

    entries = front.app.state.journal.since(0)
    assert [entry["kind"] for entry in entries].count("identity") == 1
    assert not any(entry["token_in_url"] for entry in entries)
    assert not any("secret" in line for line in front.seen)


def test_a_token_that_died_is_replaced_once(signed_in: MarketoClient, front: Front, limiter: FakeLimiter) -> None:
    front.app.state.clock.advance(4_000)

    assert signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER).records == [Answer("created")]
    assert limiter.used == 2


def test_the_slow_lanes_calls_let_the_others_go_first(signed_in: MarketoClient, limiter: FakeLimiter) -> None:
    signed_in.yielding().roles(["id 1"])
    signed_in.roles(["id 1"])

    assert (limiter.slow, limiter.used) == (1, 2)


def test_a_second_refusal_of_the_token_in_a_row_is_an_error(signed_in, front, limiter) -> None:
    front.instead = [refusal("602"), emulated, refusal("601")]

    with pytest.raises(Unavailable, match="601"):
        signed_in.roles(["id 1"])
    assert limiter.used == 2


def test_a_wrong_secret_is_a_setting_and_shows_nothing_of_it(service, front, clock, limiter) -> None:
    wrong = MarketoClient(settings(service[1], marketo_client_secret="my secret"), clock, limiter)

    with pytest.raises(CredentialsRefused, match="MARKETO_CLIENT_SECRET") as error:
        wrong.roles(["id 1"])
    assert "my secret" not in str(error.value)
    assert "33333333" not in str(error.value)


def test_a_path_outside_the_gateway_is_a_wrong_url(service, front, clock, limiter) -> None:
    front.instead = [says(b"<html>", "403 Forbidden")]

    with pytest.raises(ConfigurationError, match="MARKETO_URL"):
        MarketoClient(settings(service[1]), clock, limiter).roles(["id 1"])


def test_a_natively_linked_marketo_stops_everybody(client, front, limiter) -> None:
    front.app.state.switches.set({"native_crm_sync": True})

    with pytest.raises(ConfigurationError, match="natively linked"):
        client.upsert(OPPORTUNITY, [opportunity(1), opportunity(2)], until=LATER)
    assert [kind for _, kind, _ in limiter.pauses] == ["stop"]


def test_missing_rights_stop_everybody(client, front, limiter) -> None:
    front.app.state.switches.set({"permissions": {"33333333-3333-4333-8333-333333333333": ["Read-Only Lead"]}})

    with pytest.raises(ConfigurationError, match="Read-Write Opportunity"):
        client.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)
    assert [kind for _, kind, _ in limiter.pauses] == ["stop"]


@pytest.mark.parametrize("place", ["record", "request"])
def test_an_unknown_field_at_every_record_is_a_fault_of_the_mapping(client, front, place) -> None:
    front.app.state.switches.set({"unknown_field": place})

    with pytest.raises(ConfigurationError, match=r"crm__c.*unknown field in the mapping"):
        client.upsert(OPPORTUNITY, [opportunity(1, crm__c="x"), opportunity(2, crm__c="x")], until=LATER)


def test_an_unknown_sales_person_splits_the_batch(client) -> None:
    with pytest.raises(SplitBatch) as error:
        client.upsert(OPPORTUNITY, [opportunity(1), opportunity(2, externalSalesPersonId="nobody")], until=LATER)
    assert (error.value.code, error.value.unanswered) == ("718", False)


def test_a_body_over_1_mb_splits_the_batch(client) -> None:
    with pytest.raises(SplitBatch) as error:
        client.upsert(OPPORTUNITY, [opportunity(1, description="x" * 1_100_000)], until=LATER)
    assert error.value.code == "413"


def test_the_daily_quota_pauses_everybody_until_five_past_six(client, front, limiter, clock) -> None:
    front.app.state.switches.set({"daily_quota": 0})

    with pytest.raises(QuotaExhausted) as error:
        client.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)
    assert limiter.pauses[0][:2] == (datetime(2026, 3, 3, 6, 5, tzinfo=UTC), "quota")
    assert error.value.delay == (limiter.pauses[0][0] - clock.now()).total_seconds()


@pytest.mark.parametrize("code", ["606", "615"])
def test_a_rate_limit_pauses_everybody_and_the_call_is_repeated(signed_in, front, limiter, code) -> None:
    front.instead = [refusal(code)]

    assert not signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER).unanswered
    assert limiter.pauses[0][1] == "wait"


def test_a_lasting_rate_limit_goes_back_to_the_queue(signed_in, front) -> None:
    front.instead = [refusal("606")] * 5

    with pytest.raises(Throttled):
        signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)


# --- the port of experiments ------------------------------------------------------------------------------------


def test_an_experiment_sends_what_it_is_given_and_hears_what_marketo_says(signed_in, front, limiter) -> None:
    records = [{"externalOpportunityId": f"x{n}"} for n in range(301)]
    said = signed_in.ask("POST", "opportunities.json", body={"action": "updateOnly", "input": records})
    assert (said["success"], said["errors"][0]["code"]) == (False, "1003")

    said = signed_in.ask("POST", "opportunities.json", body={"input": [{"externalOpportunityId": "a", "nope": 1}]})
    assert said["result"][0]["reasons"][0]["code"] == "1006"  # for `upsert`, a wrong mapping

    asked = {"filterType": "email", "filterValues": "probe@example.com", "batchSize": "300"}
    assert signed_in.ask("GET", "leads.json", query=asked)["result"] == []
    assert front.seen[-1] == "POST /rest/v1/leads.json?_method=GET"  # no address in a URL
    assert (limiter.used, limiter.pauses) == (3, [])


@pytest.mark.parametrize("code", ["603", "1018", "718", "611", "604"])
def test_what_marketo_refuses_an_experiment_stops_nobody(signed_in, front, limiter, code) -> None:
    front.instead = [refusal(code)]

    assert signed_in.ask("POST", "opportunities.json", body={"input": []})["errors"][0]["code"] == code
    assert limiter.pauses == []


@pytest.mark.parametrize("code", ["606", "615", "608", "713"])
def test_what_passes_is_no_answer_to_an_experiment(signed_in, front, code) -> None:
    front.instead = [refusal(code)]

    assert signed_in.ask("GET", "stats/usage.json")["success"] is True
    front.instead = [refusal(code)] * 9
    with pytest.raises(RetryLater):
        signed_in.ask("GET", "stats/usage.json")


def test_a_hurried_experiment_goes_past_the_limiter_and_hears_the_limits(signed_in, front, limiter) -> None:
    front.instead = [refusal("606"), refusal("602")]

    assert signed_in.ask("GET", "stats/usage.json", hurried=True)["errors"][0]["code"] == "606"
    assert signed_in.ask("GET", "stats/usage.json", hurried=True)["success"] is True  # with a new token
    assert (limiter.used, limiter.pauses) == (0, [])


def test_an_experiment_without_an_answer_is_sent_again(signed_in, front, limiter) -> None:
    front.instead = [applied(front.app)]

    said = signed_in.ask("POST", "opportunities.json", body={"input": [opportunity(1)]})

    assert said["result"][0]["status"] == "updated"
    assert said["unanswered"] is True
    assert signed_in.ask("POST", "opportunities.json", body={"input": [opportunity(2)]})["unanswered"] is False


# --- answers that are none --------------------------------------------------------------------------------------


def applied(app: MarketoApp) -> Instead:
    """The write is done, and its answer lost on the way: a gateway's page instead."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        list(app(environ, lambda *_: None))
        page = b"<html>502 Bad Gateway</html>"
        start_response("502 Bad Gateway", [("Content-Type", "text/html"), ("Content-Length", str(len(page)))])
        return [page]

    return answer


def test_a_lost_answer_is_repeated_and_remembered(signed_in, front, limiter) -> None:
    front.instead = [applied(front.app)]

    answers = signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)

    assert answers.records == [Answer("updated")]
    assert answers.unanswered
    assert limiter.used == 2


@pytest.mark.parametrize(
    "broken",
    [
        says(b"<html>", "502 Bad Gateway"),
        says(b"<html>"),
        says(b""),
        says(b'{"requestId":"1#2","resu'),
        says([]),
        says({"result": []}),
        refusal("502"),
        refusal("500"),
    ],
)
def test_an_answer_that_says_nothing_about_a_write_leaves_it_unanswered(signed_in, front, broken) -> None:
    front.instead = [broken] * 9

    with pytest.raises(Unavailable) as error:
        signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)
    assert error.value.unanswered


def test_silence_keeps_the_slot_and_is_not_waited_out_twice(signed_in, front, limiter, monkeypatch) -> None:
    monkeypatch.setattr(marketo, "WRITE_TIMEOUT", 0.2)
    front.app.state.switches.set({"latency": {"write": 0.6}})
    monkeypatch.setattr(marketo, "WRITE_PATIENCE", 0.0)

    with pytest.raises(Unavailable) as error:
        signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)
    assert error.value.unanswered
    assert len(limiter.kept) == 1


def test_a_write_that_waited_too_long_is_not_sent(signed_in, front, clock, limiter, monkeypatch) -> None:
    monkeypatch.setattr(limiter, "_wait", lambda: clock.sleep(61))

    with pytest.raises(OutOfTime):
        signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=clock.now() + timedelta(seconds=60))
    assert front.seen == []


def test_a_broken_answer_to_a_question_is_asked_again_and_leaves_nothing_open(signed_in, front) -> None:
    front.instead = [says(b"<html>", "502 Bad Gateway"), says(b"")]
    assert signed_in.roles(["id 1"]) == {}

    front.instead = [says(b"<html>", "502 Bad Gateway")] * 9
    with pytest.raises(Unavailable) as error:
        signed_in.roles(["id 1"])
    assert not error.value.unanswered


@pytest.mark.parametrize(
    ("later", "kind"),
    [("718", SplitBatch), ("603", Unavailable), ("607", Unavailable), ("606", Unavailable), ("713", Unavailable)],
)
def test_whatever_comes_after_a_lost_answer_says_that_it_was_lost(signed_in, front, later, kind) -> None:
    front.instead = [says(b"<html>", "502 Bad Gateway"), *[refusal(later)] * 9]

    with pytest.raises(kind) as error:
        signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)
    assert error.value.unanswered


def test_a_time_out_told_by_marketo_splits_and_may_have_been_applied(signed_in, front) -> None:
    front.instead = [refusal("604")]

    with pytest.raises(SplitBatch) as error:
        signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)
    assert error.value.unanswered


def test_a_subscription_that_cannot_be_reached_is_not_asked_again_at_once(signed_in, front, limiter) -> None:
    front.instead = [refusal("614")]

    with pytest.raises(Unavailable):
        signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)
    assert limiter.used == 1


def test_the_wrong_number_of_results_is_no_answer(signed_in, front) -> None:
    front.instead = [result({"seq": 0, "status": "created"})]

    with pytest.raises(Unavailable) as error:
        signed_in.upsert(OPPORTUNITY, [opportunity(1), opportunity(2)], until=LATER)
    assert error.value.unanswered


def test_results_are_put_in_the_order_of_the_records(signed_in, front) -> None:
    front.instead = [result({"seq": 1, "status": "updated"}, {"seq": 0, "status": "created"}, warnings=["a text"])]

    answers = signed_in.upsert(OPPORTUNITY, [opportunity(1), opportunity(2)], until=LATER)

    assert [each.status for each in answers.records] == ["created", "updated"]


def test_codes_may_be_numbers(signed_in, front) -> None:
    front.instead = [says({"success": False, "errors": [{"code": 718, "message": "x"}]})]

    with pytest.raises(SplitBatch):
        signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)


def test_http_429_is_a_rate_limit(signed_in, front, limiter, clock) -> None:
    front.instead = [says(b"", "429 Too Many", ("Retry-After", "100"))]

    with pytest.raises(Throttled) as error:
        signed_in.upsert(OPPORTUNITY, [opportunity(1)], until=LATER)
    assert error.value.delay == 100
    assert limiter.pauses[0][0] == clock.now() + timedelta(seconds=100)


# --- paging -----------------------------------------------------------------------------------------------------


def person(number: int) -> dict[str, Any]:
    return {"id": number, "email": f"P{number}@example.test", "updatedAt": "2026-01-02T03:04:05Z"}


def test_pages_of_people_may_lack_a_result_and_go_on_without_saying_so(signed_in, front) -> None:
    forms: list[bytes] = []
    pages = [says({"success": True, "nextPageToken": "ABC===="}), result(person(2), nextPageToken="DEF===="), result()]
    front.instead = [kept(page, forms) for page in pages]

    assert signed_in.leads("email", ["x"]) == [Lead(2, "p2@example.test", "2026-01-02T03:04:05Z")]
    assert b"nextPageToken=ABC%3D%3D%3D%3D" in forms[1]
    assert b"filterValues=x" in forms[2]


def test_paging_ends_where_marketo_says_so_even_with_a_token(signed_in, front) -> None:
    front.instead = [result(person(1), moreResult=False, nextPageToken="ABC")]

    assert len(signed_in.leads("email", ["x"])) == 1


def test_paging_that_does_not_move_on_is_given_up(signed_in, front) -> None:
    front.instead = [result(nextPageToken="ABC")] * 9

    with pytest.raises(Unavailable, match="does not move on"):
        signed_in.leads("email", ["x"])


def test_an_announced_page_without_its_token_is_no_end(signed_in, front) -> None:
    front.instead = [result(moreResult=True)]

    with pytest.raises(Unavailable, match="another page"):
        signed_in.leads("email", ["x"])


def test_no_data_found_is_an_empty_answer_to_a_question(signed_in, front) -> None:
    front.instead = [refusal("702")]

    assert signed_in.leads("email", ["x"]) == []


# --- the token's last seconds (marketo.md §1.3) -------------------------------------------------------------------


def token(seconds: float, text: str = "a token") -> Instead:
    return says({"access_token": text, "token_type": "bearer", "expires_in": seconds, "scope": "x@example.test"})


def test_a_token_with_seconds_left_is_slept_out_at_most_three_times(client, front, clock) -> None:
    front.instead = [token(0), token(5), token(2)]

    with pytest.raises(Unavailable, match="about to expire"):
        client.roles(["id 1"])
    assert clock.monotonic() == 1 + 6 + 3


def test_a_token_inside_the_margin_is_used_and_asked_for_again_in_time(client, front, clock) -> None:
    front.instead = [token(20), result(), result(), token(3600), result(), result()]

    for wait in (0, 9, 2, 3_000):
        clock.sleep(wait)
        client.roles(["id 1"])

    assert [line.partition("?")[0] for line in front.seen].count("POST /identity/oauth/token") == 2


def test_identity_trouble_is_waited_for(client, front) -> None:
    front.instead = [says(b"<html>", "502 Bad Gateway"), says(b"{}")]

    assert client.roles(["id 1"]) == {}


# --- recorded answers ---------------------------------------------------------------------------------------------

UPSERT = ("opp_created", "opp_updated", "opp_updateonly_missing", "role_created", "role_updateonly_missing")
UPSERT += ("company_created", "company_updateonly_missing", "lead_mixed_batch", "lead_exists", "lead_not_found_update")


def observed(name: str) -> Instead:
    if not OBSERVED.exists():
        pytest.skip("the recorded answers are not here (../shared)")
    case = next(each for each in json.loads(OBSERVED.read_text())["cases"] if each["name"] == name)
    body = case["body"] if not isinstance(case["body"], str) else case["body"].encode()
    return says(body, f"{case['status']} Recorded")


@pytest.mark.parametrize("name", UPSERT)
def test_recorded_write_answers_are_understood(signed_in, front, name) -> None:
    front.instead = [observed(name)]
    answers = signed_in.upsert(
        OPPORTUNITY, [opportunity(n) for n in range(2 if name == "lead_mixed_batch" else 1)], until=LATER
    )

    assert {each.status for each in answers.records} <= {"created", "updated", "skipped"}
    assert all(each.code in {"1013", "1003", "1005", "1004"} for each in answers.records if each.status == "skipped")


@pytest.mark.parametrize("name", ["opp_deleted", "opp_delete_missing", "role_deleted"])
def test_recorded_delete_answers_are_understood(signed_in, front, name) -> None:
    front.instead = [observed(name)]

    (answer,) = signed_in.delete(OPPORTUNITY, [{"externalOpportunityId": "A"}], until=LATER).records
    assert (answer.status, answer.code) in {("deleted", ""), ("skipped", "1013")}


def test_recorded_roles_are_understood(signed_in, front) -> None:
    front.instead = [observed("role_query_default_fields"), observed("role_compound_query"), observed("query_no_match")]

    found = [signed_in.roles(["A"]) for _ in range(3)]

    assert [role.key for role in found[0]["A"]] == [(406, "buyer")]
    assert [role.key for role in found[1]["A"]] == [(4, "buyer")]
    assert found[2] == {}


def test_recorded_pages_of_people_are_understood(signed_in, front) -> None:
    front.instead = [observed("lead_page_without_result"), observed("lead_last_page")]

    assert signed_in.leads("id", ["1"]) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("wrong_path_prefix", ConfigurationError),
        ("token_missing", ConfigurationError),
        ("invalid_filter_type", ConfigurationError),
        ("filter_type_missing", ConfigurationError),
        ("filter_values_missing", ConfigurationError),
        ("invalid_dedupe_by", ConfigurationError),
        ("unknown_field_in_fields", ConfigurationError),
        ("not_found_path", ConfigurationError),
    ],
)
def test_recorded_refusals_are_understood(signed_in, front, name, kind: type[SyncError]) -> None:
    front.instead = [observed(name)]

    with pytest.raises(kind):
        signed_in.roles(["A"])


@pytest.mark.parametrize("name", ["identity_unknown_client", "identity_bad_secret"])
def test_recorded_identity_refusals_are_settings(client, front, name) -> None:
    front.instead = [observed(name)]

    with pytest.raises(CredentialsRefused, match="MARKETO_CLIENT_ID"):
        client.roles(["A"])


def test_the_recorded_token_is_used(client, front) -> None:
    front.instead = [observed("identity_ok"), result()]

    assert client.roles(["A"]) == {}


def test_the_pauses_are_those_of_the_limits(limiter, signed_in, front, clock) -> None:
    front.instead = [refusal("615"), refusal("606")]
    begin = clock.now()
    signed_in.roles(["A"])

    assert [until - begin >= timedelta(seconds=3) for until, _, _ in limiter.pauses] == [True, True]


# --- what only `validate` asks -------------------------------------------------------------------------------------


def test_the_fields_that_people_can_be_searched_by(client) -> None:
    assert {"email", "id", "externalCompanyId"} <= set(client.searchable())
    assert "title" not in client.searchable()


def test_usage_counts_everybodys_calls_and_its_own(client, front, limiter) -> None:
    front.app.state.switches.set({"background_daily": 720})

    assert (client.usage(), client.usage()) == (721, 722)
    assert limiter.used == 2


def test_the_latest_answer_tells_how_the_clocks_differ(client, front, clock) -> None:
    assert client.skew() is None
    front.app.state.clock.freeze(True)
    front.app.state.clock.set((clock.now() - timedelta(seconds=90)).isoformat())
    client.describe(OPPORTUNITY)
    assert client.skew() == pytest.approx(90, abs=0.01)

    front.app.state.clock.advance(100)
    client.usage()
    assert client.skew() == pytest.approx(-10, abs=0.01)


def test_an_answer_without_a_time_leaves_the_difference_as_it_was(signed_in, front) -> None:
    known = signed_in.skew()
    front.instead = [says({"requestId": "e42b#14272d07d78", "success": True, "result": []}), says({"success": True})]
    signed_in.usage()
    told = signed_in.skew()
    signed_in.usage()

    assert told != known
    assert signed_in.skew() == told


def test_a_person_is_deleted_by_id(client, front) -> None:
    [person] = front.app.state.load({"leads": [{"email": "ann@acme.invalid"}]})["leads"]

    answers = client.delete(LEAD, [{"id": person}, {"id": 2_000_000_001}], until=LATER)

    assert [answer.status for answer in answers.records] == ["deleted", "skipped"]


@pytest.mark.parametrize("code", ["603", "1018"])
def test_a_refusal_carries_its_code(signed_in, front, code) -> None:
    front.instead = [refusal(code)]

    with pytest.raises(ConfigurationError) as refused:
        signed_in.delete(OPPORTUNITY, [{"externalOpportunityId": "x"}], until=LATER)
    assert refused.value.code == code
