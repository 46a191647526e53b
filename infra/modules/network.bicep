metadata description = 'A virtual network: the app goes out through it, storage account and vault are reached in it alone.'

@description('What the names end with.')
param token string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('The first three numbers of its address range, a /24.')
param networkAddress string

@description('The storage account.')
param storageId string

@description('The vault.')
param vaultId string

var targets = [
  {
    name: 'blob'
    id: storageId
    zone: 'privatelink.blob.${az.environment().suffixes.storage}'
  }
  {
    name: 'queue'
    id: storageId
    zone: 'privatelink.queue.${az.environment().suffixes.storage}'
  }
  {
    name: 'table'
    id: storageId
    zone: 'privatelink.table.${az.environment().suffixes.storage}'
  }
  {
    name: 'vault'
    id: vaultId
    zone: 'privatelink.vaultcore.azure.net'
  }
]

resource nobodyComesIn 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: 'nsg-opsync-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'nobody-from-the-internet'
        properties: {
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: 'vnet-opsync-${token}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: ['${networkAddress}.0/24'] }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: '${networkAddress}.0/26'
          networkSecurityGroup: { id: nobodyComesIn.id }
          delegations: [
            {
              name: 'flex-consumption'
              properties: { serviceName: 'Microsoft.App/environments' }
            }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: '${networkAddress}.64/26'
          networkSecurityGroup: { id: nobodyComesIn.id }
          privateEndpointNetworkPolicies: 'Enabled'
        }
      }
    ]
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [for target in targets: {
  name: target.zone
  location: 'global'
  tags: tags
}]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (target, i) in targets: {
  parent: zones[i]
  name: 'opsync-${token}'
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: { id: network.id }
  }
}]

resource endpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [for target in targets: {
  name: 'pe-opsync-${target.name}-${token}'
  location: location
  tags: tags
  properties: {
    subnet: { id: '${network.id}/subnets/endpoints' }
    privateLinkServiceConnections: [
      {
        name: target.name
        properties: {
          privateLinkServiceId: target.id
          groupIds: [target.name]
        }
      }
    ]
  }
}]

resource names 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [for (target, i) in targets: {
  parent: endpoints[i]
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: target.name
        properties: { privateDnsZoneId: zones[i].id }
      }
    ]
  }
}]

output appSubnetId string = '${network.id}/subnets/app'
