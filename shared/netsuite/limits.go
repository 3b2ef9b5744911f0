package netsuite

import "sorrel/shared/budget"

// limits: an account counts requests at once, of all integrations together; the smallest has 5, and we leave one. There
// are frequency limits of 60 seconds and of a day too, of which neither the numbers are published nor do answers say any:
// who is over them is told so by USER_ERROR or SSS_REQUEST_LIMIT_EXCEEDED.
// https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/section_1500275531.html
func limits() []budget.Limit { return []budget.Limit{{Name: budget.Calls, Max: 4}} }

// Limits of the account, by Config.Limits and otherwise below those of the smallest one.
func (c *Connector) Limits() []budget.Limit { return c.limits }
