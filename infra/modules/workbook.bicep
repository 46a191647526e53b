metadata description = 'What the status page shows, from telemetry and over time: a workbook of Azure Monitor.'

@description('Azure region.')
param location string

@description('Tags.')
param tags object

@description('Application Insights that the app sends its telemetry to.')
param insightsId string

@description('Address of the status page.')
param statusPage string

var title = 'Opportunity Sync'
var kind = 'microsoft.insights/components'

// Sizes are the portal's numbers: 0 medium, 1 small, 4 tiny.
var parts = [
  { name: 'verdict', title: 'In step?', look: 'table', size: 4, width: '40', query: loadTextContent('../queries/verdict.kql') }
  { name: 'now', title: 'Now', look: 'table', size: 1, width: '60', query: loadTextContent('../queries/now.kql') }
  { name: 'alerts-on', title: 'Alerts that are on', look: 'table', size: 1, width: '100', query: loadTextContent('../queries/alerts-on.kql') }
  { name: 'oldest', title: 'How late, in minutes', look: 'timechart', size: 0, width: '50', query: loadTextContent('../queries/oldest.kql') }
  { name: 'freshness', title: 'From a change to Marketo, in minutes', look: 'timechart', size: 0, width: '50', query: loadTextContent('../queries/freshness.kql') }
  { name: 'backlog', title: 'Messages that wait', look: 'timechart', size: 0, width: '50', query: loadTextContent('../queries/backlog.kql') }
  { name: 'throughput', title: 'Done in each hour', look: 'timechart', size: 0, width: '50', query: loadTextContent('../queries/throughput.kql') }
  { name: 'budget', title: 'Marketo calls left today', look: 'timechart', size: 0, width: '50', query: loadTextContent('../queries/budget.kql') }
  { name: 'poison', title: 'Messages in the poison queues', look: 'timechart', size: 0, width: '50', query: loadTextContent('../queries/poison.kql') }
  { name: 'calls', title: 'Requests by endpoint and code', look: 'table', size: 0, width: '50', query: loadTextContent('../queries/calls.kql') }
  { name: 'parked', title: 'Parked, by reason', look: 'table', size: 0, width: '50', query: loadTextContent('../queries/parked.kql') }
  { name: 'alert-history', title: 'Alerts that began and ended', look: 'table', size: 0, width: '100', query: loadTextContent('../queries/alert-history.kql') }
  { name: 'runs', title: 'Last ticks and deliveries', look: 'table', size: 0, width: '100', query: loadTextContent('../queries/runs.kql') }
  { name: 'warnings', title: 'Warnings', look: 'table', size: 0, width: '50', query: loadTextContent('../queries/warnings.kql') }
  { name: 'errors', title: 'Exceptions and failed calls', look: 'table', size: 0, width: '50', query: loadTextContent('../queries/errors.kql') }
]
var head = [
  {
    type: 1
    name: 'head'
    content: {
      json: '# ${title}\nFrom telemetry, a few minutes late. Pauses, first loads and single records are on the [status page](${statusPage}).'
    }
  }
  {
    type: 9
    name: 'time'
    content: {
      version: 'KqlParameterItem/1.0'
      parameters: [
        {
          id: guid(insightsId, title, 'time')
          version: 'KqlParameterItem/1.0'
          name: 'TimeRange'
          label: 'Time'
          type: 4
          isRequired: true
          value: { durationMs: 86400000 }
          typeSettings: {
            selectableValues: [
              { durationMs: 3600000 }
              { durationMs: 14400000 }
              { durationMs: 86400000 }
              { durationMs: 259200000 }
              { durationMs: 604800000 }
              { durationMs: 2592000000 }
            ]
            allowCustom: true
          }
        }
      ]
      style: 'pills'
      queryType: 0
      resourceType: kind
    }
  }
]
var shown = [for part in parts: {
  type: 3
  name: part.name
  customWidth: part.width
  content: {
    version: 'KqlItem/1.0'
    title: part.title
    query: part.query
    size: part.size
    visualization: part.look
    noDataMessage: 'Nothing in this time.'
    timeContextFromParameter: 'TimeRange'
    queryType: 0
    resourceType: kind
  }
}]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(insightsId, title)
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: title
    category: 'workbook'
    version: 'Notebook/1.0'
    sourceId: insightsId
    serializedData: string({
      version: 'Notebook/1.0'
      items: concat(head, shown)
      fallbackResourceIds: [insightsId]
    })
  }
}

output id string = workbook.id
