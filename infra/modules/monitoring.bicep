metadata description = 'Application Insights on a Log Analytics workspace. Both take data from Entra identities only.'

@description('What the names end with.')
param token string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Days that data is kept.')
param retentionDays int

@description('Most GB a day.')
param dailyCapGb int

@description('Object id of the identity of the app.')
param appPrincipalId string

var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: 'log-opsync-${token}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    workspaceCapping: { dailyQuotaGb: dailyCapGb }
    features: { disableLocalAuth: true }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-opsync-${token}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    IngestionMode: 'LogAnalytics'
    DisableLocalAuth: true
  }
}

resource appPublishes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, appPrincipalId, monitoringMetricsPublisher)
  scope: insights
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    description: 'The app sends its telemetry.'
  }
}

output workspaceId string = workspace.id
output insightsId string = insights.id
// With local authentication off it is an address: whoever has it can write nothing.
output connectionString string = insights.properties.ConnectionString
