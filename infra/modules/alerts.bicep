metadata description = 'The alerts of docs/operations.md in Azure: who is needed now, and what can wait until somebody is at work.'

@description('What the names end with.')
param token string

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Application Insights that the app sends its telemetry to.')
param insightsId string

@description('Whether the rules are switched on.')
param live bool

@description('Addresses that are told. None: alerts show in the portal only.')
param emails array

@description('Address of the status page, for whoever is told.')
param statusPage string

var rules = [
  {
    when: 'now'
    severity: 1
    title: 'Opportunity Sync: somebody is needed now'
    means: 'Marketo is not in step with Dynamics, or nobody knows.'
  }
  {
    when: 'later'
    severity: 3
    title: 'Opportunity Sync: somebody should look'
    means: 'The sync goes on, and something in it waits for a person.'
  }
]

resource receivers 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(emails)) {
  name: 'ag-opsync-${token}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'opsync'
    enabled: true
    emailReceivers: [for (email, at) in emails: {
      name: 'address ${at + 1}'
      emailAddress: email
      useCommonAlertSchema: true
    }]
  }
}

resource alerts 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for rule in rules: {
  name: 'alert-opsync-${rule.when}-${token}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: rule.title
    description: '${rule.means} The alert has its name, what it means and where to begin as dimensions; all of it is in docs/operations.md, under its name. The status page: ${statusPage}'
    severity: rule.severity
    enabled: live
    scopes: [insightsId]
    // Looks come every five minutes, and Azure takes minutes to show them: in fifteen there is always one.
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../queries/alerts.kql')
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            { name: 'when', operator: 'Include', values: [rule.when] }
            { name: 'alert', operator: 'Include', values: ['*'] }
            { name: 'means', operator: 'Include', values: ['*'] }
            { name: 'begin', operator: 'Include', values: ['*'] }
          ]
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    autoMitigate: true
    // At the first deployment there is nothing yet to ask; tools/kql.py has looked at the query.
    skipQueryValidation: true
    actions: { actionGroups: empty(emails) ? [] : [receivers.id] }
  }
}]
