package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"lasthop/internal/sockets"
	"lasthop/internal/survey"
	"lasthop/routing"
	"lasthop/routing/host"
)

// Losing returns the sockets of NGINX that no listener of a plan names, and
// whose replies have a way now that the plan takes away: NGINX has loaded
// something else than what is on disk. Without sock_diag, or where the files of
// a master may not be looked at, there are none to be seen.
func Losing(s *survey.Survey, k sockets.Lister, l Loaded) (list []string) {
	var pids []int
	for _, m := range l.Masters {
		if slices.ContainsFunc(s.NGINX.Configs,
			func(c survey.Config) bool { return c.Runs(m) }) {
			pids = append(pids, m.PID)
		}
	}
	look, err := sockets.Take(k, "", pids)
	if err != nil {
		return nil
	}
	d := doctor{survey: s}
	for _, pid := range pids {
		open, _ := look.Of(pid)
		for _, o := range open {
			if at := o.Local.Addr(); !d.named(o) && has(s.Decision.Owned, at) &&
				!has(s.Decision.Plan.State, at) {
				list = append(list, string(o.Transport)+" "+listenText(o))
			}
		}
	}
	return list
}

// Unloaded returns why apply refuses a plan that removes rules: NGINX has not
// loaded what is on disk, and listens, or may, on an address whose way the plan
// removes.
func Unloaded(s *survey.Survey, o Options) []routing.Finding {
	if len(s.Decision.Diff.DelRules) == 0 {
		return nil
	}
	l, err := Loads(s, o.Line.NetNS, o.Status)
	if err != nil {
		return nil // apply says so
	}
	for i := range l.Findings {
		l.Findings[i].Severity = routing.Warning
	}
	if losing := Losing(s, o.Kernel, l); len(losing) > 0 {
		l.Findings = append(l.Findings, routing.Warning.Finding("not-loaded", "NGINX",
			"it listens on %s, which no listen on disk names, and this plan takes "+
				"its way: apply refuses that", routing.Some(losing, 3)).
			Advise("nginx -t && nginx -s reload"))
	}
	return l.Findings
}

// has reports whether replies from an address, or of a wildcard from some,
// match a rule.
func has(s routing.State, at netip.Addr) bool {
	return slices.ContainsFunc(s.Rules, func(r routing.Rule) bool {
		return r.From.Contains(at) || at.IsUnspecified() && r.From.Addr().Is4() == at.Is4()
	})
}

// listenText is what --listen takes for the address of a socket.
func listenText(s host.Socket) string {
	if s.Local.Addr() == netip.IPv4Unspecified() {
		return fmt.Sprintf("*:%d", s.Local.Port())
	}
	return s.Local.String()
}
