"""Changes of who signs in, and of what is said where nobody can."""

from __future__ import annotations

from tools.sabotage.change import Change

DATAVERSE = "sync_core/adapters/dataverse.py"
IDENTITY = "sync_core/adapters/identity.py"
SETTINGS = "sync_core/settings.py"
VALIDATE = "sync_core/flows/validate.py"

OF_IDENTITY = "tests/adapters/test_identity.py::"
OF_SETTINGS = "tests/test_settings.py::"
OF_VALIDATE = "tests/flows/test_validate.py::"

CHANGES = (
    Change(
        "Cloud Shell taken for an app in Azure",
        "8",
        IDENTITY,
        "return any(all(os.environ.get(name) for name in names) for names in PLATFORM)",
        "return any(any(os.environ.get(name) for name in names) for names in PLATFORM)",
        OF_IDENTITY + "test_in_azure_is_where_the_platform_offers_an_app_s_identity",
    ),
    Change(
        "your token asked of whatever tenant `az` is set to",
        "8",
        IDENTITY,
        "found = credential.get_token(*scopes, tenant_id=tenant_id, **options)",
        "found = credential.get_token(*scopes, **options)",
        OF_IDENTITY + "test_your_own_token_is_of_the_tenant_of_dynamics",
    ),
    Change(
        "one tenant's token given for another's",
        "8",
        IDENTITY,
        'wanted = scopes, tenant_id or ""',
        'wanted = scopes, ""',
        OF_IDENTITY + "test_a_token_is_asked_of_the_tenant_and_kept_for_each",
    ),
    Change(
        "`az` started for every request",
        "8",
        IDENTITY,
        "if found is None or found.expires_on <= time.time():",
        "if True:",
        OF_IDENTITY + "test_many_requests_ask_for_your_token_once",
    ),
    Change(
        "your token kept for longer than it is sure to live",
        "8",
        IDENTITY,
        "AccessToken(token, int(time.time()) + KEEP)",
        "AccessToken(token, int(time.time()) + 3_600)",
        OF_IDENTITY + "test_a_token_is_asked_of_the_tenant_and_kept_for_each",
    ),
    Change(
        "a program that hangs waited for",
        "6 8",
        IDENTITY,
        "each.credential(process_timeout=PROGRAM_TIMEOUT)",
        "each.credential(process_timeout=600)",
        OF_IDENTITY + "test_a_program_that_hangs_is_left_alone",
    ),
    Change(
        "a refused `az` keeps `azd` from being asked",
        "8",
        IDENTITY,
        "                failed.append((program, error))\n",
        "                failed.append((program, error))\n                break\n",
        OF_IDENTITY + "test_where_one_program_can_t_the_other_is_asked",
    ),
    Change(
        "what `az` wrote repeated in an error",
        "2.10",
        IDENTITY,
        "`{program.name}` gave no token: run `{program.shows}` to see why",
        "`{program.name}` gave no token ({error}): run `{program.shows}` to see why",
        OF_IDENTITY + "test_each_failure_names_its_remedy_and_nobody",
    ),
    Change(
        "whatever stands as tenant repeated in an error",
        "2.10",
        IDENTITY,
        "shown = tenant if tenant and _ID.fullmatch(tenant) else",
        "shown = tenant if tenant else",
        OF_IDENTITY + "test_each_failure_names_its_remedy_and_nobody",
    ),
    Change(
        "nobody signed in taken for a service that is away",
        "6",
        IDENTITY,
        'return CredentialsRefused(f"nobody is signed in on this machine: {sign_in}")',
        'return Unavailable(f"nobody is signed in on this machine: {sign_in}")',
        OF_IDENTITY + "test_with_nobody_signed_in_each_kind_says_what_to_do",
    ),
    Change(
        "a managed identity out of reach taken for a wrong setting",
        "6",
        IDENTITY,
        'raise Unavailable(f"the managed identity does not answer ({type(error).__name__})") from None',
        'raise CredentialsRefused(f"the managed identity does not answer ({type(error).__name__})") from None',
        OF_IDENTITY + "test_a_managed_identity_out_of_reach_is_waited_for",
    ),
    Change(
        "the managed identity's token asked for once and used for ever",
        "8",
        DATAVERSE,
        'return {"client_assertion": lambda: own.get_token(EXCHANGE).token}',
        'return {"client_assertion": own.get_token(EXCHANGE).token}',
        OF_IDENTITY + "test_each_token_of_entra_id_has_an_assertion_of_its_own",
    ),
    Change(
        "your own sign-in told as the app's",
        "8",
        VALIDATE,
        "        if self.setup.signs_in is SignIn.OWN:\n",
        "        if not self.setup.signs_in:\n",
        OF_VALIDATE + "test_your_own_sign_in_is_amber_since_the_rights_are_yours",
    ),
    Change(
        "outside Azure a managed identity waited for",
        "8",
        DATAVERSE,
        "    if not in_azure():\n        return SignIn.OWN\n",
        "",
        OF_IDENTITY + "test_as_whom_follows_from_the_settings_and_the_place",
    ),
    Change(
        "a secret beside the federated identity",
        "8",
        SETTINGS,
        'if "dataverse_federated_client_id" in given and given & _SECRETS:',
        'if "dataverse_federated_client_id" in given and given >= _SECRETS:',
        OF_SETTINGS + "test_a_federated_identity_and_a_secret_contradict_each_other",
    ),
    Change(
        "a Key Vault reference sent as the secret",
        "2.10 8",
        SETTINGS,
        "            if _UNREAD.match(text):\n",
        "            if _UNREAD.fullmatch(text):\n",
        OF_SETTINGS + "test_a_key_vault_reference_that_nobody_followed_is_no_value",
    ),
)
