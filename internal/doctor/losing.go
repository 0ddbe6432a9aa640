package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"lasthop/internal/hint"
	"lasthop/internal/sockets"
	"lasthop/internal/survey"
	"lasthop/routing"
	"lasthop/routing/host"
)

// losing returns the sockets of NGINX that no listener of a plan names, and
// whose replies have a way now that the plan removes: NGINX has loaded
// something else than what is on disk. It returns none without sock_diag, or if
// it may not read the files of a master.
func losing(s *survey.Survey, k sockets.Lister, l Loaded) (list []string) {
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

// Takes returns what NGINX has not loaded of what is on disk, and what it
// listens on whose way the plan removes. A plan that removes no rule returns
// none.
func Takes(s *survey.Survey, o Options) (l Loaded, err error) {
	if len(s.Decision.Diff.DelRules) == 0 {
		return l, nil
	}
	if l, err = Loads(s, o.Line.NetNS, o.Status); err == nil {
		l.Losing = losing(s, o.Kernel, l)
	}
	return l, err
}

// ToldLosing reports that NGINX listens on sockets whose way the plan removes.
func (l Loaded) ToldLosing() string {
	return "listens on " + routing.Some(l.Losing, 3) + ", which no listen on disk names, " +
		"and this plan removes its path"
}

// Refusals are why apply refuses the plan; none if it does not.
func (l Loaded) Refusals() (out []routing.Finding) {
	for _, f := range l.Findings {
		f.Severity = routing.Warning
		out = append(out, f)
	}
	if len(l.Losing) > 0 {
		out = append(out, routing.Warning.Finding("not-loaded", "NGINX",
			"it %s: apply refuses this plan", l.ToldLosing()).
			Advise("nginx -t && nginx -s reload"))
	}
	return out
}

// has reports whether replies from an address, or of a wildcard from some,
// match a rule.
func has(s routing.State, at netip.Addr) bool {
	return slices.ContainsFunc(s.Rules, func(r routing.Rule) bool {
		return r.From.Contains(at) || at.IsUnspecified() && r.From.Addr().Is4() == at.Is4()
	})
}

// listenText is the value of --listen for the address of a socket.
func listenText(s host.Socket) string {
	if s.Local.Addr() == netip.IPv4Unspecified() {
		return fmt.Sprintf("*:%d", s.Local.Port())
	}
	return s.Local.String()
}

// Refused is the error with which apply refuses the plan: NGINX listens, or may
// listen, on something that is not on disk.
func (l Loaded) Refused() error {
	message, remedy := "NGINX "+l.ToldLosing(), "nginx -t && nginx -s reload"
	if len(l.Losing) == 0 {
		message = l.Findings[0].Message + ", and may listen on addresses whose path " +
			"this plan removes"
		remedy = l.Findings[0].Hint
	}
	return hint.New(errors.New(message+": nothing is changed"),
		remedy+", then run apply again; or only add: --no-delete")
}
