"""The Dataverse Web API, the Entra ID token endpoint and the App Service managed identity, emulated.

`state.DataverseState` is the organization: rows, versions, save rules, clock; no sockets.
`web.DataverseApp` speaks HTTP for it. The facts come from the project's contract, quoted as `dataverse.md §n`.
"""
