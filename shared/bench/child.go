package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"sorrel/shared/bench/floor"
	"sorrel/shared/bench/load"
	"sorrel/shared/bench/peer"
	"sorrel/shared/boot"
	"sorrel/shared/local"
	"sorrel/shared/telemetry"
)

// ChildArgs begin the command line of a measured child. The program that calls this package must hand the
// arguments after them to Child before it looks at its command line in any other way.
func ChildArgs() []string { return []string{"bench", "child"} }

// childConfig is what a child is told on its standard input.
type childConfig struct {
	Peer      string // V, I, W or Sorrel
	Dir       string
	CPU       int // to stay on; -1 = any
	Target    string
	Config    string                   // Sorrel: configuration folder
	Endpoints map[string]boot.Endpoint // Sorrel
	Listen    string                   // Sorrel
	Workers   int                      // Sorrel: 0 = the usual, negative = no hub and no deliver
	Profile   string                   // file for a CPU profile; empty = none
	ListEvery time.Duration            // Sorrel: how often platforms are listed; 0 = never
}

// procs is GOMAXPROCS of every child: with 1 a flush would stop the only processor.
const procs = 2

// Child is the main function of a measured child. args are what follows ChildArgs.
func Child(args []string) error {
	if len(args) != 0 {
		return fmt.Errorf("bench child: unexpected arguments %q", args)
	}
	return peer.Serve(os.Stdin, os.Stdout, func(c childConfig) (string, func() error, error) {
		runtime.GOMAXPROCS(procs)
		if c.CPU >= 0 {
			if _, err := peer.Pin(c.CPU); err != nil {
				return "", nil, err
			}
		}
		url, stop, err := startChild(c)
		if err != nil || c.Profile == "" {
			return url, stop, err
		}
		profile, err := os.Create(c.Profile)
		if err != nil {
			return "", nil, errors.Join(err, stop())
		}
		if err := pprof.StartCPUProfile(profile); err != nil {
			return "", nil, errors.Join(err, stop())
		}
		return url, func() error {
			pprof.StopCPUProfile()
			return errors.Join(profile.Close(), stop())
		}, nil
	})
}

func startChild(c childConfig) (string, func() error, error) {
	if c.Peer == comparing {
		return startComparing(c)
	}
	if c.Peer != "Sorrel" {
		return floor.Start(floor.Config{Kind: c.Peer, Dir: c.Dir, Target: c.Target})
	}
	local.TuneRuntime(os.Getenv)
	set, err := boot.LoadConfig(c.Config)
	if err != nil {
		return "", nil, err
	}
	w, err := boot.Embedded(filepath.Join(c.Dir, "data"), set, c.Endpoints, quiet)
	if err != nil {
		return "", nil, err
	}
	if c.ListEvery == 0 {
		c.ListEvery = -1
	}
	h, err := local.Start(w, local.Options{Listen: c.Listen, BatchEvery: c.ListEvery, HubWorkers: c.Workers, DeliverWorkers: c.Workers})
	if err != nil {
		return "", nil, errors.Join(err, w.Close())
	}
	return h.URL(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return errors.Join(h.Close(ctx), w.Close())
	}, nil
}

// quiet counts but logs nothing.
func quiet(now func() time.Time) *telemetry.Recorder { return telemetry.New(nil, now, nil) }

// netSuite is an account that only sends webhooks.
func netSuite() boot.Endpoint {
	return boot.Endpoint{Credentials: secret(map[string]any{"webhookSecrets": []string{load.Secret}})}
}

func secret(a any) json.RawMessage {
	b, _ := json.Marshal(a) // strings always marshal
	return b
}
