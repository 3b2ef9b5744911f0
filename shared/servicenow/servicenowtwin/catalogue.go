package servicenowtwin

import (
	"fmt"

	"sorrel/shared/servicenow"
)

// deletions is the table of what was deleted. The instance alone writes it.
const deletions = "sys_audit_delete"

func texts(names ...string) []Field {
	out := make([]Field, len(names))
	for i, n := range names {
		out[i] = Field{Name: n}
	}
	return out
}

func reference(name, target string) Field {
	return Field{Name: name, Type: "reference", Target: target, Max: 32}
}

func choice(name string, values ...string) Field {
	return Field{Name: name, Type: "choice", Choices: values, Max: 40}
}

// catalogue is what Customer Service Management brings, and the kit's fields.
// https://www.servicenow.com/docs/r/api-reference/rest-apis/case-api.html
func catalogue(kit bool) map[string]*table {
	account := append(texts("street", "stock_symbol", "account_code", "registration_code", "account_path", "rank_tier", "num_employees", "fiscal_year", "latitude", "longitude"),
		Field{Name: "name", Label: "Name", Max: 80, Mandatory: kit},
		Field{Name: "city", Max: 50}, Field{Name: "state", Max: 40}, Field{Name: "zip", Max: 40}, Field{Name: "country", Max: 40},
		Field{Name: "phone", Max: 40}, Field{Name: "fax_phone", Max: 40}, Field{Name: "website", Max: 1024},
		Field{Name: "notes", Max: 4000},
		Field{Name: "active", Type: "boolean", Default: "true"},
		Field{Name: "customer", Type: "boolean", Default: "true"},
		Field{Name: "partner", Type: "boolean", Default: "false"},
		Field{Name: "vendor", Type: "boolean", Default: "false"},
		Field{Name: "primary", Type: "boolean", Default: "false"},
		Field{Name: "revenue_per_year", Type: "decimal"}, Field{Name: "market_cap", Type: "decimal"},
		reference("account_parent", servicenow.Account), reference("parent", servicenow.Account), reference("primary_contact", servicenow.Contact))
	contact := append(texts("time_zone"),
		Field{Name: "first_name", Max: 50}, Field{Name: "last_name", Label: "Last name", Max: 50, Mandatory: kit}, Field{Name: "name", ReadOnly: true},
		Field{Name: "user_name", Max: 40}, Field{Name: "email", Max: 100}, Field{Name: "phone", Max: 40}, Field{Name: "mobile_phone", Max: 40}, Field{Name: "title", Max: 60},
		Field{Name: "city", Max: 40}, Field{Name: "country", Max: 40},
		Field{Name: "active", Type: "boolean", Default: "true"},
		reference("account", servicenow.Account))
	cases := append(texts("contact_type", "category", "subcategory", "cause", "business_impact", "correlation_display"),
		Field{Name: "short_description", Max: 160}, Field{Name: "description", Max: 4000},
		Field{Name: "close_notes", Max: 4000}, Field{Name: "correlation_id", Max: 100},
		Field{Name: "state", Type: "choice", Choices: []string{"1", "10", "18", "6", "3"}, Default: "1"},
		Field{Name: "priority", Type: "choice", Choices: []string{"1", "2", "3", "4"}, Default: "4"},
		Field{Name: "impact", Type: "choice", Choices: []string{"1", "2", "3"}, Default: "3"},
		Field{Name: "urgency", Type: "choice", Choices: []string{"1", "2", "3"}, Default: "3"},
		Field{Name: "escalation", Type: "choice", Choices: []string{"0", "1", "2"}, Default: "0"},
		Field{Name: "resolution_code", Type: "choice", Max: 40},
		Field{Name: "active", Type: "boolean", Default: "true"},
		Field{Name: "opened_at", Type: "glide_date_time"}, Field{Name: "resolved_at", Type: "glide_date_time"}, Field{Name: "closed_at", Type: "glide_date_time"},
		Field{Name: "comments", Journal: true, Max: 4000}, Field{Name: "work_notes", Journal: true, Max: 4000},
		reference("account", servicenow.Account), reference("contact", servicenow.Contact), reference("assigned_to", "sys_user"), reference("assignment_group", "sys_user_group"),
		reference("consumer", "csm_consumer"), reference("product", "cmdb_model"), reference("asset", "alm_asset"), reference("parent", "task"))
	if kit {
		id := Field{Name: "u_sorrel_id", Max: 100, Unique: true}
		account = append(account, id,
			Field{Name: "u_erp_number", Max: 40}, Field{Name: "u_tax_id", Max: 40}, Field{Name: "u_currency", Max: 3}, Field{Name: "u_terms", Max: 60},
			Field{Name: "u_credit_limit", Type: "decimal"}, Field{Name: "u_balance", Type: "decimal"},
			choice("u_credit_hold", "auto", "on", "off"), choice("u_segment", "enterprise", "midmarket", "small"), choice("u_support_tier", "standard", "premium", "vip"),
			choice("u_industry", "agriculture", "construction", "education", "energy", "finance", "food", "government", "healthcare", "hospitality", "manufacturing", "media", "retail",
				"services", "technology", "transport", "other"),
			Field{Name: "u_account_manager", Max: 120}, Field{Name: "u_sales_context", Max: 255})
		contact = append(contact, id)
		cases = append(cases, id, Field{Name: "u_sla_breached", Type: "boolean", Default: "false"}, choice("u_sorrel_escalation", "none", "escalated", "handled"),
			Field{Name: "u_erp_context", Max: 4000}, Field{Name: "u_crm_context", Max: 4000},
			choice("u_entitled_tier", "none", "standard", "premium", "vip"), Field{Name: "u_entitled_until", Type: "glide_date"}, Field{Name: "u_entitlement_reason", Max: 255})
	}
	return map[string]*table{deletions: newTable("", texts("tablename", "documentkey")...), servicenow.Account: newTable("ACCT", account...), servicenow.Contact: newTable("", contact...), servicenow.Case: newTable("CS", cases...)}
}

// staging is the table behind a staging table of the kit, and the field of that table that a column is mapped to.
func (t *Twin) staging(name string) (object string, field func(column string) string, ok bool) {
	for object, tb := range t.tables {
		if name == "u_sorrel_"+object && !t.opt.NoCustomSetup {
			return object, func(column string) string {
				if len(column) > 2 && tb.field(column) == nil && column[:2] == "u_" {
					return column[2:]
				}
				return column
			}, true
		}
	}
	return "", nil, false
}

func mapName(object string) string { return fmt.Sprintf("Sorrel %s", object) }
