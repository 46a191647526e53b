targetScope = 'subscription'

metadata description = 'Opportunity Sync in one resource group: a Flex Consumption app, its storage account, vault, identity and monitoring.'

// ---------------------------------------------------------------------------------------------------------------------
// Where

@minLength(1)
@maxLength(40)
@description('Name of the azd environment, such as sync-test or sync-production. The resource group is rg- and this name.')
param environmentName string

@minLength(1)
@description('Azure region. It must offer Flex Consumption. Another one later makes everything a second time.')
param location string

@description('Tags for everything, beside azd-env-name, such as costCenter=42,owner=marketing.')
param tags string = ''

// ---------------------------------------------------------------------------------------------------------------------
// The two services

@minLength(12)
@description('DATAVERSE_URL: the environment, such as https://org.crm.dynamics.com.')
param dataverseUrl string

@minLength(12)
@description('MARKETO_URL: the subscription, such as https://123-ABC-456.mktorest.com, without /rest.')
param marketoUrl string

@minLength(1)
@description('MARKETO_CLIENT_ID: of the custom service. Its secret is put into the vault by a person, as marketo-client-secret.')
param marketoClientId string

@allowed(['managedIdentity', 'federated', 'secret', 'certificate'])
@description('How the app signs in to Dynamics. managedIdentity needs no secret at all; federated: an app registration, also of another tenant, that trusts the managed identity; secret and certificate: an app registration whose secret or PEM is in the vault.')
param dataverseSignIn string = 'managedIdentity'

@description('DATAVERSE_TENANT_ID: tenant of the app registration. Not with managedIdentity.')
param dataverseTenantId string = ''

@description('DATAVERSE_CLIENT_ID: the app registration. Not with managedIdentity, where it is the managed identity itself.')
param dataverseClientId string = ''

@description('DATAVERSE_CLIENT_SECRET_EXPIRES: the day on which the secret in the vault expires, such as 2027-01-31.')
param dataverseClientSecretExpires string = ''

@description('DATAVERSE_AUTHORITY_HOST: where tokens come from.')
param dataverseAuthorityHost string = environment().authentication.loginEndpoint

// ---------------------------------------------------------------------------------------------------------------------
// The sync

@allowed(['false', 'true'])
@description('Whether the timers and queues run. Off, the app is there and does nothing: check, plan and try first.')
param live string = 'false'

@description('MARKETO_CALLS_PER_20S: our share of the 100 calls in 20 seconds that the subscription has.')
param marketoCallsPer20s string = '50'

@description('MARKETO_CONCURRENCY: our share of the 10 calls at once that the subscription has.')
param marketoConcurrency string = '5'

@description('MARKETO_DAILY_CALLS: our share of the daily quota.')
param marketoDailyCalls string = '25000'

@description('MARKETO_LATE_WRITE_S: seconds for which Marketo may still apply a write that got no answer.')
param marketoLateWriteS string = '300'

@description('SYNC_SCHEDULE: when to look for changes, NCRONTAB with six fields, UTC.')
param syncSchedule string = '0 */5 * * * *'

@description('SYNC_CONFIG: the mapping, a file in the package.')
param syncConfig string = 'sync.toml'

// ---------------------------------------------------------------------------------------------------------------------
// The status page, and who is told

@allowed(['key', 'entra'])
@description('STATUS_SIGN_IN: who may open the status page: whoever has the function key, or whoever signs in with Microsoft Entra ID.')
param statusSignIn string = 'key'

@description('With entra: the client id of the app registration that people sign in to.')
param statusClientId string = ''

@description('Addresses that Azure alerts are sent to, separated by commas. None: alerts show in the portal only.')
param alertEmails string = ''

@allowed(['false', 'true'])
@description('Whether ALERT_WEBHOOK_URL is in the vault, as alert-webhook-url: the app then tells a channel of Slack or Teams by itself.')
param alertWebhook string = 'false'

@description('Object id of the Entra group, or the user, who operates the sync from a command line: gets the queues, tables and secrets. None: nobody does.')
param operatorId string = ''

@allowed(['Group', 'User'])
@description('What operatorId is.')
param operatorType string = 'Group'

// ---------------------------------------------------------------------------------------------------------------------
// Hosting

@allowed(['3.11', '3.12'])
@description('Python of the Functions worker. azure-functions 1.x, which the app is pinned to, takes these two.')
param pythonVersion string = '3.11'

@allowed(['512', '2048', '4096'])
@description('Memory of an instance in MB. The worker needs less than 200; the Functions host comes on top.')
param instanceMemoryMB string = '2048'

@description('Most instances for each function: more than Marketo takes calls at once would only wait for each other. Where a region refuses fewer than 40, say 40: nothing but the bill depends on it.')
param maximumInstanceCount string = marketoConcurrency

@allowed(['false', 'true'])
@description('Three availability zones for the plan and the storage account. Azure then keeps two instances ready for each function, which costs far more than all else. Before the first azd up.')
param zoneRedundant string = 'false'

@allowed(['false', 'true'])
@description('A virtual network with private endpoints: storage account and vault then have no public address. Before the first azd up.')
param privateNetwork string = 'false'

@description('The first three numbers of the /24 address range of that network. Before the first azd up.')
param networkAddress string = '10.90.0'

@description('Days that logs, traces and metrics are kept. Application Insights keeps its own for 90 at least.')
param logRetentionDays string = '90'

@description('Most GB of telemetry a day; what comes beyond is dropped until the next day, and nobody hears of alerts. An ordinary day has far less than one.')
param logDailyCapGb string = '1'

@description('Budget of the resource group for a month, in the currency of the subscription. 0: none. Needs ALERT_EMAILS and BUDGET_START.')
param budgetAmount string = '0'

@description('First day of the month in which the budget was made, such as 2026-12-01. Azure refuses to change it later.')
param budgetStart string = ''

// ---------------------------------------------------------------------------------------------------------------------

var token = toLower(uniqueString(subscription().id, environmentName, location))
var pairs = empty(tags) ? [] : map(split(tags, ','), pair => split(pair, '='))
var allTags = union(toObject(pairs, pair => trim(pair[0]), pair => trim(pair[1])), { 'azd-env-name': environmentName })
var emails = empty(alertEmails) ? [] : split(replace(alertEmails, ' ', ''), ',')

// What no constraint of a single parameter can say. It stops the deployment before anything is made.
var registration = dataverseSignIn != 'managedIdentity' && (empty(dataverseTenantId) || empty(dataverseClientId))
  ? ['DATAVERSE_SIGN_IN=${dataverseSignIn} needs DATAVERSE_TENANT_ID and DATAVERSE_CLIENT_ID.']
  : []
var visitors = statusSignIn == 'entra' && empty(statusClientId) ? ['STATUS_SIGN_IN=entra needs STATUS_CLIENT_ID.'] : []
var spending = int(budgetAmount) > 0 && (empty(emails) || empty(budgetStart))
  ? ['BUDGET_AMOUNT needs ALERT_EMAILS and BUDGET_START.']
  : []
var addresses = startsWith(dataverseUrl, 'https://') && startsWith(marketoUrl, 'https://')
  ? []
  : ['DATAVERSE_URL and MARKETO_URL must begin with https://.']
// azd passes text: as a number that can't be read, or as a switch that is neither, it would become the default.
var ranges = [
  { name: 'MARKETO_CALLS_PER_20S', value: marketoCallsPer20s, least: 1, most: 100 }
  { name: 'MARKETO_CONCURRENCY', value: marketoConcurrency, least: 1, most: 10 }
  { name: 'MARKETO_DAILY_CALLS', value: marketoDailyCalls, least: 1, most: 999999999 }
  { name: 'MARKETO_LATE_WRITE_S', value: marketoLateWriteS, least: 1, most: 300 }
  { name: 'MAXIMUM_INSTANCE_COUNT', value: maximumInstanceCount, least: 1, most: 1000 }
  { name: 'LOG_RETENTION_DAYS', value: logRetentionDays, least: 90, most: 730 }
  { name: 'LOG_DAILY_CAP_GB', value: logDailyCapGb, least: 1, most: 1000 }
  { name: 'BUDGET_AMOUNT', value: budgetAmount, least: 0, most: 1000000 }
]
var outside = filter(ranges, each => int(each.value) < each.least || int(each.value) > each.most)
var numbers = map(outside, each => '${each.name} must be ${each.least} to ${each.most}.')
var wrong = concat(registration, visitors, spending, addresses, numbers)

resource group 'Microsoft.Resources/resourceGroups@2024-11-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: empty(wrong) ? allTags : fail(join(wrong, ' '))
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'id-opsync-${token}'
    location: location
    tags: allTags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
    retentionDays: int(logRetentionDays)
    dailyCapGb: int(logDailyCapGb)
    appPrincipalId: identity.outputs.principalId
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: 'stopsync${token}'
    location: location
    tags: allTags
    zoneRedundant: bool(zoneRedundant)
    privateNetwork: bool(privateNetwork)
    workspaceId: monitoring.outputs.workspaceId
    appPrincipalId: identity.outputs.principalId
    operatorId: operatorId
    operatorType: operatorType
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    name: 'kv-opsync-${token}'
    location: location
    tags: allTags
    privateNetwork: bool(privateNetwork)
    workspaceId: monitoring.outputs.workspaceId
    appPrincipalId: identity.outputs.principalId
    operatorId: operatorId
    operatorType: operatorType
  }
}

module network 'modules/network.bicep' = if (bool(privateNetwork)) {
  name: 'network'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
    networkAddress: networkAddress
    storageId: storage.outputs.id
    vaultId: vault.outputs.id
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    storageBlobUri: storage.outputs.blobUri
    storageQueueUri: storage.outputs.queueUri
    storageTableUri: storage.outputs.tableUri
    packageContainer: storage.outputs.packageContainer
    vaultUri: vault.outputs.uri
    applicationInsightsConnectionString: monitoring.outputs.connectionString
    subnetId: bool(privateNetwork) ? network!.outputs.appSubnetId : ''
    pythonVersion: pythonVersion
    instanceMemoryMB: int(instanceMemoryMB)
    maximumInstanceCount: int(maximumInstanceCount)
    zoneRedundant: bool(zoneRedundant)
    live: bool(live)
    dataverseUrl: dataverseUrl
    dataverseSignIn: dataverseSignIn
    dataverseTenantId: dataverseTenantId
    dataverseClientId: dataverseClientId
    dataverseClientSecretExpires: dataverseClientSecretExpires
    dataverseAuthorityHost: dataverseAuthorityHost
    marketoUrl: marketoUrl
    marketoClientId: marketoClientId
    marketoCallsPer20s: marketoCallsPer20s
    marketoConcurrency: marketoConcurrency
    marketoDailyCalls: marketoDailyCalls
    marketoLateWriteS: marketoLateWriteS
    syncSchedule: syncSchedule
    syncConfig: syncConfig
    statusSignIn: statusSignIn
    statusClientId: statusClientId
    alertWebhook: bool(alertWebhook)
  }
}

var statusPage = 'https://${app.outputs.host}/api/status'

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
    insightsId: monitoring.outputs.insightsId
    live: bool(live)
    emails: emails
    statusPage: statusPage
  }
}

module workbook 'modules/workbook.bicep' = {
  name: 'workbook'
  scope: group
  params: {
    location: location
    tags: allTags
    insightsId: monitoring.outputs.insightsId
    statusPage: statusPage
  }
}

module budget 'modules/budget.bicep' = if (int(budgetAmount) > 0) {
  name: 'budget'
  scope: group
  params: {
    amount: int(budgetAmount)
    start: budgetStart
    emails: emails
  }
}

// What the command line needs, under the names that it reads: `azd env get-values` prints it. And the choices that
// another machine must not lose: `azd env refresh` brings them. No secret is among it.
output AZURE_RESOURCE_GROUP string = group.name
output FUNCTION_APP string = app.outputs.name
output STATUS_PAGE string = statusPage
output KEY_VAULT string = vault.outputs.name
output IDENTITY_CLIENT_ID string = identity.outputs.clientId
output IDENTITY_PRINCIPAL_ID string = identity.outputs.principalId
output SYNC_LIVE string = live
output ALERT_EMAILS string = alertEmails
output ALERT_WEBHOOK string = alertWebhook
output OPERATOR_ID string = operatorId
output OPERATOR_TYPE string = operatorType
output PRIVATE_NETWORK string = privateNetwork
output NETWORK_ADDRESS string = networkAddress
output ZONE_REDUNDANT string = zoneRedundant
output STATUS_SIGN_IN string = statusSignIn
output STATUS_CLIENT_ID string = statusClientId
output DATAVERSE_SIGN_IN string = dataverseSignIn
output DATAVERSE_TENANT_ID string = dataverseTenantId
output DATAVERSE_CLIENT_ID string = dataverseClientId
output DATAVERSE_URL string = dataverseUrl
output MARKETO_URL string = marketoUrl
output MARKETO_CLIENT_ID string = marketoClientId
output AzureWebJobsStorage__blobServiceUri string = storage.outputs.blobUri
output AzureWebJobsStorage__queueServiceUri string = storage.outputs.queueUri
output AzureWebJobsStorage__tableServiceUri string = storage.outputs.tableUri
