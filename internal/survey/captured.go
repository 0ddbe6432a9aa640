package survey

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/capture"
)

// Captured reads the host of a file that `lasthop capture` wrote. It also
// returns the capture, for the flags that the host was read with.
func Captured(path string) (none Place, c capture.Capture, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return none, c, hint.New(fmt.Errorf("read captured host: %w", err),
			"make one on that host: lasthop capture > host.json")
	}
	if c, err = capture.Decode(path, data); err != nil {
		return none, c, err
	}
	if lacksIPv6Rules(c.Host) {
		return none, c, hint.New(
			fmt.Errorf("%s: it has IPv6 addresses, but no IPv6 rules", path),
			`add the output of ip -6 -N -j -d rule, each with "family":"inet6", `+
				"or capture the host with: lasthop capture > host.json")
	}
	itself := report.InputOf(path, data)
	itself.Main = true
	return Place{Machine: captured{c.Host, routing.NewFIB(c.Host)}, Offline: true,
		settings: func(f settings.Flags) (settings.Settings, error) {
			return settings.LoadCaptured(f, path, c.Settings, c.Numbers)
		},
		taken:   func() time.Time { return c.Time },
		files:   func(named bool) []report.Input { return filesOf(c, itself, named) },
		running: func(listens bool) (NGINX, error) { return nginxOf(path, c, listens) },
		background: func(routing.Inputs) Background {
			return Background{c.DNATs, c.Sessions, c.NetworkFiles}
		}}, c, nil
}

// filesOf returns the files that the plan for a captured host rests on: those
// of its own machine, or the capture itself if it does not name them or if
// files of this machine replace them.
func filesOf(c capture.Capture, itself report.Input, named bool) (out []report.Input) {
	if c.Inputs == nil || named {
		return []report.Input{itself}
	}
	for _, i := range c.Inputs {
		out = append(out, report.Input(i))
	}
	return out
}

// nginxOf returns the capture's part about NGINX.
func nginxOf(path string, c capture.Capture, listens bool) (NGINX, error) {
	if len(c.Listens) == 0 && !listens {
		return NGINX{}, hint.New(fmt.Errorf("%s: the capture holds no listeners", path),
			"name the configuration with --nginx-conf, or listeners with --listen")
	}
	return NGINX{Listeners: c.Listens, Binds: c.Binds, Warnings: c.Warnings}, nil
}

// lacksIPv6Rules finds a common mistake with a capture made by `ip`, which
// lists one family at a time and does not name it. Without rules no reply would
// have a way, and every kernel with addresses has rules.
func lacksIPv6Rules(h routing.Host) bool {
	six := func(a routing.Addr) bool {
		return a.Prefix.Addr().Is6() && a.Scope == routing.ScopeGlobal
	}
	return len(h.Rules) > 0 && slices.ContainsFunc(h.Addrs, six) &&
		!slices.ContainsFunc(h.Rules, func(r routing.Rule) bool {
			return r.Family == routing.IPv6
		})
}

// captured is a captured host as a Machine. It answers as routing.Lookup does.
type captured struct {
	host routing.Host
	fib  *routing.FIB
}

func (c captured) Read() (routing.Host, error) { return c.host, nil }

func (c captured) Ask(qs []routing.Query) ([]routing.Way, error) {
	ways := make([]routing.Way, len(qs))
	for i, q := range qs {
		ways[i] = c.fib.Way(q)
	}
	return ways, nil
}

func (c captured) Write(routing.Diff) ([]routing.Op, error) {
	return nil, fmt.Errorf("write to a captured host: %w", errors.ErrUnsupported)
}
