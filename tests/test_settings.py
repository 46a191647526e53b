"""The app settings are complete or refused in one message; no secret shows in it, or anywhere else."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from sync_core.errors import ConfigurationError
from sync_core.settings import (
    DEFAULT_SCHEDULE,
    HARMLESS,
    LONGEST_LATE_WRITE_S,
    STORAGE,
    Problem,
    Settings,
    _environment,
)

SECRET = "s3cr3t-value"
ACCOUNT_KEY = "c2VjcmV0LWtleQ=="
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={ACCOUNT_KEY};EndpointSuffix=core.windows.net"
COMPLETE = {
    "DATAVERSE_URL": "https://org.crm.dynamics.com",
    "DATAVERSE_TENANT_ID": "tenant",
    "DATAVERSE_CLIENT_ID": "client",
    "DATAVERSE_CLIENT_SECRET": SECRET,
    "MARKETO_URL": "https://123-ABC-456.mktorest.com",
    "MARKETO_CLIENT_ID": "service",
    "MARKETO_CLIENT_SECRET": SECRET + "2",
    STORAGE: CONNECTION,
}
IDENTITY_STORAGE = {
    f"{STORAGE}__blobServiceUri": "https://x.blob.core.windows.net",
    f"{STORAGE}__queueServiceUri": "https://x.queue.core.windows.net",
    f"{STORAGE}__tableServiceUri": "https://x.table.core.windows.net",
    f"{STORAGE}__credential": "managedidentity",
}


def settings(*without: str, **changes: str) -> Settings:
    kept = {name: value for name, value in COMPLETE.items() if name not in without}
    return Settings.from_env(kept | changes)


def complaint(*without: str, **changes: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings(*without, **changes)
    return str(caught.value)


def doubted(name: str, value: str) -> str:
    """What is said of a wrong value of a harmless setting, which counts as left out."""
    found = settings(**{name: value})
    (doubt,) = found.doubts
    assert doubt.setting == name
    assert replace(found, doubts=()) == settings()
    return doubt.text


# --- complete or not at all -----------------------------------------------------------------------------------


def test_complete_settings_are_read_with_the_defaults_of_the_rest() -> None:
    found = settings()

    assert found.dataverse_url == "https://org.crm.dynamics.com"
    assert found.dataverse_authority_host == "https://login.microsoftonline.com"
    assert (found.marketo_calls_per_20s, found.marketo_concurrency, found.marketo_daily_calls) == (50, 5, 25_000)
    assert found.marketo_late_write_s == 300
    assert (found.sync_schedule, found.sync_config) == (DEFAULT_SCHEDULE, "sync.toml")


def test_everything_missing_is_named_in_one_message() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({})

    assert str(caught.value).startswith(
        "missing settings: DATAVERSE_URL, MARKETO_URL, MARKETO_CLIENT_ID, MARKETO_CLIENT_SECRET, AzureWebJobsStorage "
        "(or AzureWebJobsStorage__queueServiceUri and AzureWebJobsStorage__tableServiceUri). "
    )
    assert "local.settings.json" in str(caught.value)


def test_what_is_missing_and_what_is_wrong_stand_in_the_same_message() -> None:
    text = complaint("MARKETO_CLIENT_ID", DATAVERSE_URL="http://org.invalid", MARKETO_CONCURRENCY="0")

    assert all(name in text for name in ("MARKETO_CLIENT_ID", "DATAVERSE_URL", "MARKETO_CONCURRENCY"))


def test_blank_counts_as_missing() -> None:
    assert "missing settings: MARKETO_CLIENT_ID." in complaint(MARKETO_CLIENT_ID="  ")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", "2027-01-31T00:00:00+00:00"),
        ("2027-01-31T10:15:00Z", "2027-01-31T10:15:00+00:00"),
        ("2027-01-31T10:15:00+02:00", "2027-01-31T08:15:00+00:00"),
    ],
)
def test_when_a_secret_expires_is_a_date_or_a_time(text: str, moment: str) -> None:
    found = settings(DATAVERSE_CLIENT_SECRET_EXPIRES=text).dataverse_client_secret_expires

    assert found is not None
    assert found.isoformat() == moment


@pytest.mark.parametrize("text", ["31.01.2027", "1/31/2027", "never"])
def test_what_is_no_date_is_doubted(text: str) -> None:
    assert doubted("DATAVERSE_CLIENT_SECRET_EXPIRES", text) == (
        "DATAVERSE_CLIENT_SECRET_EXPIRES must be a date such as 2027-01-31"
    )


@pytest.mark.parametrize("credential", ["DATAVERSE_CLIENT_SECRET", "DATAVERSE_CLIENT_CERTIFICATE"])
def test_a_secret_or_certificate_needs_tenant_and_client(credential: str) -> None:
    missing = ("DATAVERSE_CLIENT_SECRET", "DATAVERSE_TENANT_ID", "DATAVERSE_CLIENT_ID")

    assert "missing settings: DATAVERSE_TENANT_ID, DATAVERSE_CLIENT_ID." in complaint(*missing, **{credential: "x"})


def test_a_federated_identity_needs_tenant_and_client() -> None:
    missing = ("DATAVERSE_CLIENT_SECRET", "DATAVERSE_TENANT_ID", "DATAVERSE_CLIENT_ID")

    text = complaint(*missing, DATAVERSE_FEDERATED_CLIENT_ID="x")
    assert "missing settings: DATAVERSE_TENANT_ID, DATAVERSE_CLIENT_ID." in text
    assert settings("DATAVERSE_CLIENT_SECRET", DATAVERSE_FEDERATED_CLIENT_ID="x").dataverse_federated_client_id == "x"


@pytest.mark.parametrize("beside", ["DATAVERSE_CLIENT_SECRET", "DATAVERSE_CLIENT_CERTIFICATE"])
def test_a_federated_identity_and_a_secret_contradict_each_other(beside: str) -> None:
    text = complaint("DATAVERSE_CLIENT_SECRET", **{beside: SECRET, "DATAVERSE_FEDERATED_CLIENT_ID": "x"})

    assert "DATAVERSE_FEDERATED_CLIENT_ID goes with neither DATAVERSE_CLIENT_SECRET nor" in text
    assert SECRET not in text


def test_the_managed_identity_is_not_the_app_registration() -> None:
    registered = {"DATAVERSE_TENANT_ID": "t", "DATAVERSE_CLIENT_ID": "The-App"}

    text = complaint("DATAVERSE_CLIENT_SECRET", **registered, DATAVERSE_FEDERATED_CLIENT_ID="the-app")

    assert "must be the managed identity's client id, not the app registration's" in text


UNREAD = "@Microsoft.KeyVault(VaultName=the-vault;SecretName=the-secret)"


@pytest.mark.parametrize("value", [UNREAD, f" {UNREAD}", UNREAD.lower(), "@Microsoft.KeyVault(SecretUri="])
@pytest.mark.parametrize("name", [_environment(each.name) for each in fields(Settings) if each.name != "doubts"])
def test_a_key_vault_reference_that_nobody_followed_is_no_value(name: str, value: str) -> None:
    """Whatever the setting: nothing else is said of it, as that it is missing, and it is not repeated."""
    given = {**COMPLETE, **({} if name != "DATAVERSE_FEDERATED_CLIENT_ID" else {"DATAVERSE_CLIENT_SECRET": ""})}
    found, problems = Settings.read({**given, name: value})

    told = [*problems, *found.doubts]
    assert [each.setting for each in told] == [name]
    assert told[0].text.startswith(f"{name} is a Key Vault reference that Azure could not follow: set the secret")
    assert all(words in told[0].text for words in ("'Key Vault Secrets User'", "keyVaultReferenceIdentity", "restart"))
    assert "the-vault" not in told[0].text
    assert (told[0] in found.doubts) is (name in HARMLESS)
    values = [str(getattr(found, each.name)) for each in fields(Settings) if each.name != "doubts"]
    assert not any("@microsoft" in each.lower() for each in values)


def test_storage_by_addresses_that_nobody_followed_is_not_called_missing() -> None:
    _, problems = Settings.read({**COMPLETE, STORAGE: "", **IDENTITY_STORAGE, f"{STORAGE}__tableServiceUri": UNREAD})

    assert [each.setting for each in problems] == [f"{STORAGE}__tableServiceUri"]


def test_without_secret_and_certificate_the_managed_identity_needs_no_further_setting() -> None:
    found = settings("DATAVERSE_CLIENT_SECRET", "DATAVERSE_TENANT_ID", "DATAVERSE_CLIENT_ID")

    assert found.dataverse_client_secret == ""


def test_what_can_be_used_is_read_even_when_the_rest_is_missing_or_wrong() -> None:
    found, problems = Settings.read({"DATAVERSE_URL": "https://org.invalid/", "MARKETO_CONCURRENCY": "many"})

    assert found.dataverse_url == "https://org.invalid"
    assert found.marketo_concurrency == 5
    assert [each.setting for each in problems] == [
        *("MARKETO_URL", "MARKETO_CLIENT_ID", "MARKETO_CLIENT_SECRET", STORAGE, "MARKETO_CONCURRENCY")
    ]
    assert [each.text for each in problems][-2:] == ["", "MARKETO_CONCURRENCY must be a whole number above 0"]


def test_settings_without_problems_are_read_alike_both_ways() -> None:
    assert Settings.read(COMPLETE) == (settings(), [])


# --- what no write depends on stops nothing -------------------------------------------------------------------

WRONG = {
    "int": "lots",
    "datetime | None": "11/23/2028",
    "url": "not/an address",
    "connection": "DefaultEndpointsProtocol=http;AccountName=x;AccountKey=eA==",
    "one of": "nonsense",
}
FORMS = {"storage_connection": "connection", "applicationinsights_connection_string": "connection"}
FORMS |= dict.fromkeys(("sync_telemetry", "status_sign_in"), "one of")


def wrong_values() -> dict[str, str]:
    """For every setting that can be wrong in its form such a value, by its name in the environment."""
    found = {}
    for item in fields(Settings):
        address = item.name.endswith(("_url", "_uri", "_authority_host"))
        form = FORMS.get(item.name) or ("url" if address else str(item.type))
        if form in WRONG:
            found[_environment(item.name)] = WRONG[form]
    return found


@pytest.mark.parametrize(("name", "value"), wrong_values().items())
def test_a_wrong_value_stops_the_sync_only_where_a_write_depends_on_it(name: str, value: str) -> None:
    if name in HARMLESS:
        assert doubted(name, value).startswith(f"{name} must ")
    else:
        assert f"{name} must " in complaint(**{name: value})


def test_everything_harmless_can_be_wrong_and_all_of_it_is_kept() -> None:
    wrong = {name: value for name, value in wrong_values().items() if name in HARMLESS}

    assert wrong.keys() == HARMLESS
    assert {each.setting for each in settings(**wrong).doubts} == HARMLESS


def test_what_stops_the_sync_is_told_with_what_does_not() -> None:
    text = complaint("MARKETO_CLIENT_ID", SYNC_TELEMETRY="yes")

    assert "missing settings: MARKETO_CLIENT_ID; SYNC_TELEMETRY must be" in text
    assert Settings.read({"SYNC_TELEMETRY": "yes"})[0].doubts == (
        Problem("SYNC_TELEMETRY", "SYNC_TELEMETRY must be console or off, or left out"),
    )


def test_no_setting_is_called_like_what_is_doubted() -> None:
    assert settings(DOUBTS="x") == settings()


# --- addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DATAVERSE_URL", "DATAVERSE_AUTHORITY_HOST", "MARKETO_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "http://org.crm.dynamics.com",
        "ftp://localhost",
        "https://user:s3cr3t-value@org.crm.dynamics.com",
        "https://:s3cr3t-value@org.crm.dynamics.com",
        "https://org.crm.dynamics.com?key=s3cr3t-value",
        "https://org.crm.dynamics.com#s3cr3t-value",
        "https://",
        "https://two words.invalid",
        "https://[::1",
        "https://host:port",
        "https://host:99999",
        "org.crm.dynamics.com",
        "s3cr3t-value",
    ],
)
def test_a_wrong_address_is_refused_by_name_and_never_quoted(name: str, url: str) -> None:
    text = complaint(**{name: url})

    assert f"{name} must" in text
    assert SECRET not in text


@pytest.mark.parametrize("name", ["DATAVERSE_URL", "MARKETO_URL"])
def test_an_address_with_a_path_is_refused(name: str) -> None:
    assert f"{name} must be the bare address" in complaint(**{name: "https://host.invalid/rest/s3cr3t-value"})


def test_the_authority_may_have_a_path() -> None:
    url = "https://login.example.invalid/adfs"

    assert settings(DATAVERSE_AUTHORITY_HOST=url).dataverse_authority_host == url


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_http_is_allowed_on_loopback(host: str) -> None:
    assert settings(MARKETO_URL=f"http://{host}:8443").marketo_url == f"http://{host}:8443"


def test_trailing_slashes_and_blanks_are_dropped() -> None:
    found = settings(DATAVERSE_URL=" https://org.crm.dynamics.com/ ", MARKETO_URL="https://1-a-2.mktorest.com//")

    assert found.dataverse_url == "https://org.crm.dynamics.com"
    assert found.marketo_url == "https://1-a-2.mktorest.com"


@pytest.mark.parametrize(
    ("url", "munchkin"),
    [
        ("https://123-ABC-456.mktorest.com", "123-ABC-456"),
        ("https://123-abc-456.mktorest.com/", "123-ABC-456"),
        ("https://localhost:8443", "localhost:8443"),
        ("http://127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_the_munchkin_id_is_the_first_part_of_the_host_and_the_whole_authority_on_loopback(
    url: str, munchkin: str
) -> None:
    assert settings(MARKETO_URL=url).munchkin_id == munchkin


# --- numbers, schedule, files ---------------------------------------------------------------------------------

NUMBERS = ["MARKETO_CALLS_PER_20S", "MARKETO_CONCURRENCY", "MARKETO_DAILY_CALLS", "MARKETO_LATE_WRITE_S"]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_read(name: str) -> None:
    assert getattr(settings(**{name: " 7 "}), name.lower()) == 7


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "²", "9" * 5000, SECRET])
def test_a_number_that_is_none_is_refused_by_name_and_never_quoted(name: str, text: str) -> None:
    assert f"{name} must be a whole number above 0." in complaint(**{name: text})


def test_a_late_write_must_fit_into_the_lease_of_a_message() -> None:
    assert settings(MARKETO_LATE_WRITE_S=str(LONGEST_LATE_WRITE_S)).marketo_late_write_s == LONGEST_LATE_WRITE_S
    assert LONGEST_LATE_WRITE_S < 600
    assert "MARKETO_LATE_WRITE_S must be at most" in complaint(MARKETO_LATE_WRITE_S=str(LONGEST_LATE_WRITE_S + 1))


@pytest.mark.parametrize("schedule", ["0 */5 * * * *", "*/5 * * * *", "every 5 min; or so, ok?", "00:05:00"])
def test_no_schedule_keeps_a_command_from_working(schedule: str) -> None:
    """The functions' host reads it by itself; `validate` says what is wrong with it."""
    assert settings(SYNC_SCHEDULE=schedule).sync_schedule == schedule
    assert Settings.read(COMPLETE | {"SYNC_SCHEDULE": schedule})[1] == []


def test_the_mapping_is_looked_for_in_the_app_unless_its_path_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert (settings().config_path.parent / "host.json").exists()
    assert str(settings(SYNC_CONFIG="/etc/sync.toml").config_path) == "/etc/sync.toml"


# --- storage --------------------------------------------------------------------------------------------------


def test_storage_can_be_reached_with_an_identity_instead_of_a_connection_string() -> None:
    found = settings(STORAGE, **IDENTITY_STORAGE, **{f"{STORAGE}__clientId": "user-assigned"})

    assert found.storage_connection == ""
    assert found.storage_queue_uri == "https://x.queue.core.windows.net"
    assert found.storage_table_uri == "https://x.table.core.windows.net"
    assert found.storage_client_id == "user-assigned"


@pytest.mark.parametrize("service", ["queue", "table"])
def test_storage_with_an_identity_needs_queues_and_tables(service: str) -> None:
    identity = {name: uri for name, uri in IDENTITY_STORAGE.items() if f"__{service}" not in name}

    assert f"missing settings: {STORAGE} (or" in complaint(STORAGE, **identity)


@pytest.mark.parametrize("service", ["queue", "table"])
@pytest.mark.parametrize("uri", ["http://x.invalid", "https://x.invalid?sig=s3cr3t-value", "x"])
def test_a_wrong_storage_address_is_refused_by_its_own_name(service: str, uri: str) -> None:
    name = f"{STORAGE}__{service}ServiceUri"

    text = complaint(STORAGE, **IDENTITY_STORAGE | {name: uri})

    assert f"{name} must" in text
    assert SECRET not in text


def test_a_storage_address_may_have_a_path_and_be_on_loopback() -> None:
    uri = "http://127.0.0.1:10001/devstoreaccount1"

    found = settings(STORAGE, **IDENTITY_STORAGE | {f"{STORAGE}__queueServiceUri": uri})

    assert found.storage_queue_uri == uri


# --- secrets --------------------------------------------------------------------------------------------------


def test_no_secret_shows_when_settings_are_printed() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIIsecret\n-----END PRIVATE KEY-----"
    found = settings(DATAVERSE_CLIENT_CERTIFICATE=pem)

    for shown in (repr(found), str(found), f"{found}"):
        assert SECRET not in shown
        assert ACCOUNT_KEY not in shown
        assert "MIIsecret" not in shown


def test_no_secret_shows_in_an_error() -> None:
    text = complaint("MARKETO_CLIENT_ID", DATAVERSE_URL="http://x.invalid", MARKETO_CONCURRENCY=SECRET)

    assert SECRET not in text
    assert ACCOUNT_KEY not in text


HOOK = "https://prod-1.westeurope.logic.azure.com:443/workflows/x/triggers/manual/paths/invoke?api-version=1&sig=5ig"


def test_the_address_of_a_webhook_may_hold_a_signature_and_is_a_secret() -> None:
    found = settings(ALERT_WEBHOOK_URL=HOOK)

    assert found.alert_webhook_url == HOOK
    assert HOOK in found.secrets()
    assert "5ig" not in repr(found)
    told = doubted("ALERT_WEBHOOK_URL", HOOK.replace("https", "http"))
    assert told == "ALERT_WEBHOOK_URL must start with https://"
    for wrong in ("hooks.slack.com/x", f"{HOOK}#5ig", "https://u:5ig@hooks.slack.com/x"):
        told = doubted("ALERT_WEBHOOK_URL", wrong)
        assert "ALERT_WEBHOOK_URL must look like https://host" in told
        assert "5ig" not in told


def test_the_secrets_to_keep_out_of_logs_are_all_of_them() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIIsecret\n-----END PRIVATE KEY-----"

    assert set(settings(DATAVERSE_CLIENT_CERTIFICATE=pem).secrets()) == {
        *(SECRET, SECRET + "2", pem, CONNECTION, ACCOUNT_KEY)
    }
    assert settings(DATAVERSE_CLIENT_CERTIFICATE="cert.pem").secrets() == settings().secrets()


# --- telemetry ------------------------------------------------------------------------------------------------


INSIGHTS = "InstrumentationKey=1f3c2b7a-0000-4000-8000-000000000000;IngestionEndpoint={}"


def test_where_telemetry_goes_is_a_secret_and_never_plain_http() -> None:
    name = "APPLICATIONINSIGHTS_CONNECTION_STRING"

    found = settings(**{name: INSIGHTS.format("https://x.in.applicationinsights.azure.com/")})

    assert {"1f3c2b7a-0000-4000-8000-000000000000", found.applicationinsights_connection_string} <= set(found.secrets())
    assert "1f3c2b7a" not in repr(found)
    assert doubted(name, INSIGHTS.format("http://x.example")) == f"{name} must use https://"
    assert settings(**{name: INSIGHTS.format("http://localhost:9000")})


def test_telemetry_goes_to_the_console_or_nowhere_if_so_told() -> None:
    assert [settings(SYNC_TELEMETRY=value).sync_telemetry for value in ("", "console", "off")] == ["", "console", "off"]
    assert doubted("SYNC_TELEMETRY", "yes") == "SYNC_TELEMETRY must be console or off, or left out"


def test_what_marketo_allows_is_told_without_papers_that_users_have_not() -> None:
    text = complaint(MARKETO_CONCURRENCY="11", MARKETO_CALLS_PER_20S="101")

    assert "MARKETO_CONCURRENCY must be at most 10: Marketo allows no more." in text
    assert ".md" not in text
