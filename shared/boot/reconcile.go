package boot

import (
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/platform"
)

// Reconcile makes what compares platforms with the hub. Where no platform is connected it begins and shows runs, and the
// process that has the connectors moves them on.
func (w *World) Reconcile() *reconcile.Flow {
	d := reconcile.Deps{Ledger: w.Ledger, Config: w.Config, Inbound: w.Inbound, Now: w.Now, NewID: w.newID, Telemetry: w.Telemetry, Key: w.key}
	for name, c := range w.Connectors {
		src, counts := c.(reconcile.Source)
		if !counts {
			continue
		}
		if d.Sources == nil {
			d.Sources, d.Objects = map[string]reconcile.Source{}, map[string][]platform.Object{}
		}
		d.Sources[name] = src
		for _, o := range c.Declaration().Objects {
			if _, mapped := w.Config.ByObject(name, o.Name); mapped {
				d.Objects[name] = append(d.Objects[name], o)
			}
		}
	}
	return reconcile.New(d)
}
