package endtoend

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Northwind's files are put into a folder that a process looks at: its customers arrive on Salesforce field by field, each
// order has its lines, and its products are there. Of the shippers there is no entity: an order names its shipper's number.
func TestNorthwindFiles(t *testing.T) {
	t.Parallel()
	folder := northwindFolder(t)
	n := loadNorthwind(t, folder)
	dir := t.TempDir()
	binary, twinsFile, data, configuration := build(t, dir), filepath.Join(dir, "twins.json"), filepath.Join(dir, "data"), filepath.Join(dir, "config")
	northwindConfig(t, configuration, nil)
	w := startTwins(t)
	writeEndpoints(t, w, twinsFile)
	p := begin(t, binary, "--data", data, "--config", configuration, "--twins", twinsFile, "--files", folder, "--files-every", "100ms", "--batch-every=-1s", "--sweep-every", "100ms")
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("stderr:\n%s", p.stderr)
		}
	})
	eventually(t, 2*time.Minute, "the customers on Salesforce", func() error {
		accounts := map[string]map[string]any{}
		for _, a := range w.Salesforce.All("Account") {
			accounts[fmt.Sprint(a["ERP_Customer_Number__c"])] = a
		}
		if len(accounts) != len(n.customers) {
			return fmt.Errorf("%d of %d accounts", len(accounts), len(n.customers))
		}
		for _, c := range n.customers {
			for field, want := range map[string]string{"Name": c["companyName"], "Phone": c["phone"], "BillingStreet": c["address"], "BillingCity": c["city"], "BillingState": c["region"], "BillingPostalCode": c["postalCode"], "BillingCountry": c["country"]} {
				got, _ := accounts[c["customerID"]][field].(string)
				if got != want {
					return fmt.Errorf("%s of %s is %q, want %q", field, c["customerID"], got, want)
				}
			}
		}
		st, err := p.status()
		if err != nil {
			return err
		}
		if got, want := st.Metrics.Counters["FileRecords.files"], len(n.customers)+2*len(n.orders)+len(n.products); got != float64(want) { // lines are a file of their own
			return fmt.Errorf("%v of %d records were queued", got, want)
		}
		if left := busy(st); left != "" || len(st.Exceptions) > 0 {
			return fmt.Errorf("%s, exceptions %v", left, st.Exceptions)
		}
		return nil
	})
	p.kill(t)
	for what, want := range map[string]int{"customer": len(n.customers), "order": len(n.orders), "product": len(n.products), "order --list lines": len(n.orders)} {
		out, err := command(t, binary, append(strings.Fields("files export "+what), "--to", filepath.Join(dir, "out.csv"), "--quiet", "--json", "--data", data, "--config", configuration)...)
		var got struct{ Read, Written int }
		if err == nil {
			err = json.Unmarshal(out, &got)
		}
		if err != nil || got.Written != want || got.Read != want {
			t.Errorf("%s: %+v %v, want %d", what, got, err, want)
		}
	}
}
