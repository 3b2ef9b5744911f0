// Command sorrel runs and asks Sorrel: the demo, a durable local world, the vendors' twins, configuration checks,
// and questions to a running process.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], screen{out: os.Stdout, err: os.Stderr, colour: terminal(os.Stdout)}))
}

// dashed takes the flags of bench as those of `go test` are written, too: -seeds for --seeds.
func dashed(args []string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		if out[0] == "bench" && len(a) > 2 && a[0] == '-' && a[1] >= 'a' && a[1] <= 'z' {
			out[i] = "-" + a
		}
	}
	return out
}

// run parses and executes one command line: 0 ok, 1 failed, 2 usage.
func run(ctx context.Context, args []string, s screen) int {
	var c commands
	exit := -1
	parser, err := kong.New(&c, kong.Name("sorrel"), kong.Description("System Of Record RELay: keeps customers, orders and shipments consistent across NetSuite, Salesforce, Zendesk and ServiceNow."),
		kong.UsageOnError(), kong.Writers(s.out, s.err), kong.Exit(func(code int) { exit = code }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return s.fail(err)
	}
	call, err := parser.Parse(dashed(args))
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		return s.usage(err)
	}
	if err := call.Run(ctxBinding(ctx), s); err != nil && !errors.Is(err, context.Canceled) {
		return s.fail(err)
	}
	return 0
}
