metadata description = 'A budget of the resource group: mail at 80 and 100 per cent, and when a month looks like more.'

@description('Money for a month.')
param amount int

@description('First day of the month in which it was made; it can never be changed.')
param start string

@description('Who is told.')
param emails array

resource budget 'Microsoft.Consumption/budgets@2023-11-01' = {
  name: 'opportunity-sync'
  properties: {
    category: 'Cost'
    amount: amount
    timeGrain: 'Monthly'
    timePeriod: { startDate: start }
    notifications: {
      nearlyUsed: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 80
        thresholdType: 'Actual'
        contactEmails: emails
      }
      used: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 100
        thresholdType: 'Actual'
        contactEmails: emails
      }
      willBeUsed: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 100
        thresholdType: 'Forecasted'
        contactEmails: emails
      }
    }
  }
}
