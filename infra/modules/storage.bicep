metadata description = 'The storage account of this app alone: the queues and tables of the sync, the blobs of the Functions host, the package.'

@minLength(3)
@maxLength(24)
@description('Name of the account.')
param name string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Three zones.')
param zoneRedundant bool

@description('No public address: the network module adds private endpoints.')
param privateNetwork bool

@description('The Log Analytics workspace.')
param workspaceId string

@description('Object id of the identity of the app.')
param appPrincipalId string

@description('Object id of the operators, or empty.')
param operatorId string

@description('Group or User.')
param operatorType string

// sync_core.adapters.work_queue. The Functions host moves what fails five times to the queue with -poison.
var queueNames = [
  'opportunity-sync'
  'opportunity-sync-slow'
  'opportunity-sync-poison'
  'opportunity-sync-slow-poison'
  'opportunity-sync-unreadable'
]
// sync_core.adapters.storage
var tableNames = [
  'OpportunityLedger'
  'CompanyLedger'
  'SalesPersonLedger'
  'ConnectionMap'
  'People'
  'Tombstones'
  'History'
  'SyncState'
]

var blobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var queueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var tableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'

// The host keeps its locks, keys and the package in blobs, and makes containers of its own.
var appRoles = [blobDataOwner, queueDataContributor, tableDataContributor]
var operatorRoles = empty(operatorId) ? [] : [queueDataContributor, tableDataContributor]

var publicAccess = privateNetwork ? 'Disabled' : 'Enabled'
var strangers = privateNetwork ? 'Deny' : 'Allow'

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: {
    accessTier: 'Hot'
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicAccess
    networkAcls: {
      defaultAction: strangers
      bypass: 'None'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-01-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: 7
    }
  }
}

resource package 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = {
  parent: blobs
  name: 'app-package'
  properties: { publicAccess: 'None' }
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2025-01-01' = {
  parent: account
  name: 'default'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-01-01' = [for queue in queueNames: {
  parent: queueService
  name: queue
}]

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2025-01-01' = {
  parent: account
  name: 'default'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-01-01' = [for table in tableNames: {
  parent: tableService
  name: table
}]

resource appMay 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in appRoles: {
  name: guid(account.id, appPrincipalId, role)
  scope: account
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    description: 'The app and its Functions host.'
  }
}]

resource operatorsMay 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in operatorRoles: {
  name: guid(account.id, operatorId, role)
  scope: account
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    principalId: operatorId
    principalType: operatorType
    description: 'The command line of the operators.'
  }
}]

// Who wrote or deleted blobs, that is the package, keys and locks. Queues and tables are not logged: a line for each
// operation of the sync would cost more than the sync.
resource blobLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: blobs
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageDelete'
        enabled: true
      }
      {
        category: 'StorageWrite'
        enabled: true
      }
    ]
  }
}

output id string = account.id
output packageContainer string = '${account.properties.primaryEndpoints.blob}${package.name}'
// Without the slash at their end, as SDKs and the Functions host take them.
output blobUri string = substring(account.properties.primaryEndpoints.blob, 0, length(account.properties.primaryEndpoints.blob) - 1)
output queueUri string = substring(account.properties.primaryEndpoints.queue, 0, length(account.properties.primaryEndpoints.queue) - 1)
output tableUri string = substring(account.properties.primaryEndpoints.table, 0, length(account.properties.primaryEndpoints.table) - 1)
