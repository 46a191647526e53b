metadata description = 'The function app on Flex Consumption, with every app setting that it reads.'

@description('What the names end with.')
param token string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Resource id of the identity of the app.')
param identityId string

@description('Its client id.')
param identityClientId string

@description('Blobs of the storage account.')
param storageBlobUri string

@description('Queues of the storage account.')
param storageQueueUri string

@description('Tables of the storage account.')
param storageTableUri string

@description('Address of the container that holds the package.')
param packageContainer string

@description('Address of the vault, with a slash at its end.')
param vaultUri string

@description('Where telemetry goes.')
param applicationInsightsConnectionString string

@description('The subnet that the app goes out through, or empty.')
param subnetId string

@description('Version of Python.')
param pythonVersion string

@description('Memory of an instance.')
param instanceMemoryMB int

@description('Most instances of each function.')
param maximumInstanceCount int

@description('Three zones.')
param zoneRedundant bool

@description('Whether timers and queues run.')
param live bool

@description('DATAVERSE_URL.')
param dataverseUrl string

@description('managedIdentity, federated, secret or certificate.')
param dataverseSignIn string

@description('DATAVERSE_TENANT_ID.')
param dataverseTenantId string

@description('DATAVERSE_CLIENT_ID.')
param dataverseClientId string

@description('DATAVERSE_CLIENT_SECRET_EXPIRES.')
param dataverseClientSecretExpires string

@description('DATAVERSE_AUTHORITY_HOST.')
param dataverseAuthorityHost string

@description('MARKETO_URL.')
param marketoUrl string

@description('MARKETO_CLIENT_ID.')
param marketoClientId string

@description('MARKETO_CALLS_PER_20S.')
param marketoCallsPer20s string

@description('MARKETO_CONCURRENCY.')
param marketoConcurrency string

@description('MARKETO_DAILY_CALLS.')
param marketoDailyCalls string

@description('MARKETO_LATE_WRITE_S.')
param marketoLateWriteS string

@description('SYNC_SCHEDULE.')
param syncSchedule string

@description('SYNC_CONFIG.')
param syncConfig string

@description('STATUS_SIGN_IN.')
param statusSignIn string

@description('Client id of the app registration that visitors of the status page sign in to.')
param statusClientId string

@description('Whether ALERT_WEBHOOK_URL is in the vault.')
param alertWebhook bool

var off = live ? 'false' : 'true'
var secret = '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/'

var settings = {
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  AzureWebJobsStorage__blobServiceUri: storageBlobUri
  AzureWebJobsStorage__queueServiceUri: storageQueueUri
  AzureWebJobsStorage__tableServiceUri: storageTableUri
  DATAVERSE_URL: dataverseUrl
  DATAVERSE_AUTHORITY_HOST: dataverseAuthorityHost
  MARKETO_URL: marketoUrl
  MARKETO_CLIENT_ID: marketoClientId
  MARKETO_CLIENT_SECRET: '${secret}marketo-client-secret)'
  MARKETO_CALLS_PER_20S: marketoCallsPer20s
  MARKETO_CONCURRENCY: marketoConcurrency
  MARKETO_DAILY_CALLS: marketoDailyCalls
  MARKETO_LATE_WRITE_S: marketoLateWriteS
  SYNC_SCHEDULE: syncSchedule
  SYNC_CONFIG: syncConfig
  SYNC_TELEMETRY: ''
  STATUS_SIGN_IN: statusSignIn
  'AzureWebJobs.detect_changes.Disabled': off
  'AzureWebJobs.watch_sync.Disabled': off
  'AzureWebJobs.sync_opportunities.Disabled': off
  'AzureWebJobs.sync_backlog.Disabled': off
  // docs/telemetry.md says why each.
  APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsightsConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'Authorization=AAD;ClientId=${identityClientId}'
  PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY: 'true'
  PYTHON_APPLICATIONINSIGHTS_LOGGER_NAME: 'sync_core'
  OTEL_PYTHON_DISABLED_INSTRUMENTATIONS: 'azure_sdk,django,fastapi,flask,httpx,httpx2,psycopg2,requests,urllib,urllib3'
  OTEL_TRACES_SAMPLER: 'microsoft.fixed_percentage'
  OTEL_TRACES_SAMPLER_ARG: '1.0'
  OTEL_EXPERIMENTAL_RESOURCE_DETECTORS: 'azure_functions'
  APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL: 'true'
  APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED: 'true'
  APPLICATIONINSIGHTS_SDKSTATS_DISABLED: 'true'
  APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED: 'true'
}

var signIns = {
  managedIdentity: { DATAVERSE_CLIENT_ID: identityClientId }
  federated: {
    DATAVERSE_TENANT_ID: dataverseTenantId
    DATAVERSE_CLIENT_ID: dataverseClientId
    DATAVERSE_FEDERATED_CLIENT_ID: identityClientId
  }
  secret: {
    DATAVERSE_TENANT_ID: dataverseTenantId
    DATAVERSE_CLIENT_ID: dataverseClientId
    DATAVERSE_CLIENT_SECRET: '${secret}dataverse-client-secret)'
    DATAVERSE_CLIENT_SECRET_EXPIRES: dataverseClientSecretExpires
  }
  certificate: {
    DATAVERSE_TENANT_ID: dataverseTenantId
    DATAVERSE_CLIENT_ID: dataverseClientId
    DATAVERSE_CLIENT_CERTIFICATE: '${secret}dataverse-client-certificate)'
  }
}
var webhook = { ALERT_WEBHOOK_URL: '${secret}alert-webhook-url)' }
var visitors = { OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID: identityClientId }

var signedIn = {
  platform: { enabled: true }
  globalValidation: {
    requireAuthentication: true
    unauthenticatedClientAction: 'RedirectToLoginPage'
    redirectToProvider: 'azureactivedirectory'
    excludedPaths: ['/api/health']
  }
  identityProviders: {
    azureActiveDirectory: {
      enabled: true
      registration: {
        clientId: statusClientId
        // No client secret: App Service authentication takes a token of the identity that this setting names.
        clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
        openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
      }
    }
  }
  login: { tokenStore: { enabled: false } }
  httpSettings: { requireHttps: true }
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: 'plan-opsync-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: 'func-opsync-${token}'
  location: location
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: 'Enabled'
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    // Flex Consumption has no FTP, and refuses ftpsState; TLS 1.2 is the least for deployments as well.
    siteConfig: { minTlsVersion: '1.2' }
    functionAppConfig: {
      runtime: {
        name: 'python'
        version: pythonVersion
      }
      scaleAndConcurrency: {
        maximumInstanceCount: maximumInstanceCount
        instanceMemoryMB: instanceMemoryMB
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainer
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
    }
  }
}

resource noPasswordForFtp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

resource noPasswordForScm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

resource appSettings 'Microsoft.Web/sites/config@2024-11-01' = {
  parent: app
  name: 'appsettings'
  properties: union(
    settings,
    signIns[dataverseSignIn],
    alertWebhook ? webhook : {},
    statusSignIn == 'entra' ? visitors : {}
  )
}

// Written in either case, so that going back from entra to key switches it off.
resource authentication 'Microsoft.Web/sites/config@2024-11-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: statusSignIn == 'entra' ? signedIn : { platform: { enabled: false } }
  dependsOn: [appSettings]
}

output name string = app.name
output host string = app.properties.defaultHostName
